#include "apps/tcompress/batch/summary.h"

#include <fmt/core.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "lib/support/atomic_file.h"

namespace tcompress::cli {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::optional<double> number(const json& report, const char* pointer) {
    const json::json_pointer place(pointer);
    if (!report.contains(place) || !report[place].is_number()) return std::nullopt;
    return report[place].get<double>();
}

/// Accuracy, or that of tokens.
std::optional<double> accuracy(const json& report, const std::string& task) {
    for (const char* metric : {"accuracy", "token_accuracy"})
        if (auto value = number(report, fmt::format("/evaluation/{}/metrics/{}/value", task, metric).c_str()))
            return value;
    return std::nullopt;
}

/// Of the output that fares worst.
std::optional<double> lowestCosine(const json& report) {
    const json::json_pointer place("/evaluation/fidelity");
    std::optional<double> lowest;
    if (!report.contains(place)) return lowest;
    for (const auto& [output, fidelity] : report[place].items())
        if (const auto value = number(fidelity, "/cosine/value"); value && (!lowest || *value < *lowest))
            lowest = value;
    return lowest;
}

std::string lastLine(const fs::path& file) {
    std::ifstream stream(file);
    std::string last;
    for (std::string line; std::getline(stream, line);)
        if (!line.empty()) last = line;
    return last;
}

struct Column {
    const char* key;
    std::optional<double> SummaryRow::*member;
};
constexpr Column kColumns[] = {
    {"original_bytes", &SummaryRow::originalBytes},
    {"bytes", &SummaryRow::bytes},
    {"parameters", &SummaryRow::parameters},
    {"macs", &SummaryRow::macs},
    {"original_accuracy", &SummaryRow::originalAccuracy},
    {"accuracy", &SummaryRow::accuracy},
    {"cosine", &SummaryRow::cosine},
    {"speedup", &SummaryRow::speedup},
    {"seconds", &SummaryRow::seconds},
};

std::string toJson(const std::vector<SummaryRow>& rows) {
    json list = json::array();
    for (const SummaryRow& row : rows) {
        json object = {{"model", row.model},
                       {"recipe", row.recipe},
                       {"status", name(row.status)},
                       {"exit_code", row.exitCode},
                       {"output", row.output}};
        if (!row.error.empty()) object["error"] = row.error;
        for (const Column& column : kColumns)
            if (row.*column.member) object[column.key] = *(row.*column.member);
        list.push_back(std::move(object));
    }
    return list.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

/// RFC 4180.
std::string csvCell(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + "\"";
}

std::string toCsv(const std::vector<SummaryRow>& rows) {
    std::string text = "model,recipe,status,exit_code,output,error";
    for (const Column& column : kColumns) text += fmt::format(",{}", column.key);
    text += "\n";
    for (const SummaryRow& row : rows) {
        text += fmt::format("{},{},{},{},{},{}", csvCell(row.model), csvCell(row.recipe), name(row.status),
                            row.exitCode, csvCell(row.output), csvCell(row.error));
        for (const Column& column : kColumns)
            text += row.*column.member ? fmt::format(",{}", *(row.*column.member)) : ",";
        text += "\n";
    }
    return text;
}

std::string cell(const std::optional<double>& value, const char* format) {
    return value ? fmt::format(fmt::runtime(format), *value) : "";
}

std::string toMarkdown(const std::vector<SummaryRow>& rows) {
    std::string text =
        "| model | recipe | status | MB | size | accuracy | was | cosine | speed-up | s |\n"
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|\n";
    for (const SummaryRow& row : rows) {
        const std::optional<double> megabytes = row.bytes ? std::optional(*row.bytes / 1e6) : std::nullopt;
        const std::optional<double> share = row.bytes && row.originalBytes
                                                ? std::optional(100.0 * *row.bytes / *row.originalBytes)
                                                : std::nullopt;
        text +=
            fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", row.model, row.recipe,
                        name(row.status), cell(megabytes, "{:.2f}"), cell(share, "{:.1f} %"),
                        cell(row.accuracy, "{:.4f}"), cell(row.originalAccuracy, "{:.4f}"),
                        cell(row.cosine, "{:.4f}"), cell(row.speedup, "{:.2f}"), cell(row.seconds, "{:.1f}"));
    }
    std::string errors;
    for (const SummaryRow& row : rows)
        if (!row.error.empty()) errors += fmt::format("- {} with {}: {}\n", row.model, row.recipe, row.error);
    return errors.empty() ? text : text + "\n" + errors;
}

}  // namespace

std::string_view name(JobStatus status) {
    switch (status) {
        case JobStatus::done:
            return "done";
        case JobStatus::upToDate:
            return "up to date";
        case JobStatus::constraintMissed:
            return "constraint missed";
        case JobStatus::failed:
            return "failed";
    }
    return "";
}

SummaryRow summarise(const Job& job, JobStatus status, int exitCode) {
    SummaryRow row;
    row.model = job.model;
    row.recipe = job.recipe;
    row.status = status;
    row.exitCode = exitCode;
    if (status == JobStatus::failed) {
        row.error = lastLine(job.log);
        constexpr std::string_view speaker = "tcompress: ";
        if (row.error.starts_with(speaker)) row.error.erase(0, speaker.size());
        return row;
    }
    row.output = job.output.string();
    std::ifstream stream(job.report);
    const json report = json::parse(stream, nullptr, false);
    if (report.is_discarded()) return row;
    row.originalBytes = number(report, "/original/file/bytes");
    row.bytes = number(report, "/compressed/file/bytes");
    row.parameters = number(report, "/compressed/cost/parameters");
    row.macs = number(report, "/compressed/cost/macs");
    row.originalAccuracy = accuracy(report, "original_task");
    row.accuracy = accuracy(report, "compressed_task");
    row.cosine = lowestCosine(report);
    row.speedup = number(report, "/evaluation/latency/speedup");
    row.seconds = number(report, "/seconds");
    return row;
}

std::string writeSummary(const fs::path& folder, const std::vector<SummaryRow>& rows) {
    const std::string markdown = toMarkdown(rows);
    writeFileAtomically(folder / "summary.json", toJson(rows));
    writeFileAtomically(folder / "summary.md", markdown);
    writeFileAtomically(folder / "summary.csv", toCsv(rows));
    return markdown;
}

}  // namespace tcompress::cli
