#include "lib/support/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

namespace tcompress::log {
namespace {

spdlog::level::level_enum toSpdlog(Level level) {
    switch (level) {
        case Level::debug:
            return spdlog::level::debug;
        case Level::info:
            return spdlog::level::info;
        case Level::warning:
            return spdlog::level::warn;
        case Level::error:
            return spdlog::level::err;
        case Level::off:
            break;
    }
    return spdlog::level::off;
}

struct Sink {
    std::shared_ptr<spdlog::logger> logger;
    Format format = Format::text;
};

Sink& sink() {
    static Sink instance = [] {
        Sink made;
        // The convention of no-color.org.
        const char* noColor = std::getenv("NO_COLOR");
        const bool plain = noColor != nullptr && *noColor != '\0';
        made.logger = std::make_shared<spdlog::logger>(
            "tcompress", std::make_shared<spdlog::sinks::stderr_color_sink_mt>(
                             plain ? spdlog::color_mode::never : spdlog::color_mode::automatic));
        made.logger->set_pattern("%^%l%$: %v");
        return made;
    }();
    return instance;
}

}  // namespace

void configure(Level level, Format format) {
    Sink& target = sink();
    target.format = format;
    target.logger->set_level(toSpdlog(level));
    // The JSON message is escaped in write(); the pattern only adds what spdlog knows.
    target.logger->set_pattern(format == Format::json
                                   ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%v})"
                                   : "%^%l%$: %v");
}

bool enabled(Level level) { return sink().logger->should_log(toSpdlog(level)); }

void write(Level level, std::string_view message) {
    Sink& target = sink();
    if (target.format == Format::json) {
        target.logger->log(toSpdlog(level),
                           nlohmann::json(std::string(message))
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    } else {
        target.logger->log(toSpdlog(level), spdlog::string_view_t(message.data(), message.size()));
    }
}

}  // namespace tcompress::log
