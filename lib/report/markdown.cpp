#include <fmt/core.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "lib/report/describe.h"
#include "lib/report/sections.h"
#include "lib/report/text.h"

namespace tcompress::report {
namespace {

std::string bullet(std::string_view text) { return fmt::format("- {}\n", text); }

std::string taskLine(const measure::Evaluation& evaluation) {
    std::string text;
    for (const char* name : {"accuracy", "token_accuracy"}) {
        const auto difference = evaluation.pairedDifference.find(name);
        if (difference == evaluation.pairedDifference.end()) continue;
        text += bullet(fmt::format("{}: {:.4f} to {:.4f} (paired difference {})", name,
                                   evaluation.originalTask->metrics.at(name).value,
                                   evaluation.compressedTask->metrics.at(name).value,
                                   differenceText(difference->second)));
    }
    return text;
}

}  // namespace

std::string headline(const Report& report) {
    std::string text;
    if (report.original && report.compressed) {
        const FileRecord &before = report.original->file, &after = report.compressed->file;
        text += fmt::format("{} to {}\n\n", code(before.path), code(after.path));
        if (before.fileBytes > 0 && after.fileBytes > 0)
            text += bullet(fmt::format(
                "size: {} to {} ({})", bytesText(before.fileBytes), bytesText(after.fileBytes),
                shareText(static_cast<double>(after.fileBytes), static_cast<double>(before.fileBytes))));
    } else if (report.original) {
        text += fmt::format("{} ({})\n", code(report.original->file.path),
                            bytesText(report.original->file.fileBytes));
    }
    if (report.evaluation) {
        const measure::Evaluation& evaluation = *report.evaluation;
        text += taskLine(evaluation);
        if (evaluation.latency && evaluation.latency->compressed.runs > 0)
            text += bullet(fmt::format(
                "speed: {:.2f} times the original's (median {} to {}, batch {}, {} threads)",
                evaluation.latency->speedup, secondsText(evaluation.latency->original.medianSeconds),
                secondsText(evaluation.latency->compressed.medianSeconds),
                evaluation.latency->compressed.batch, evaluation.latency->compressed.threads));
        if (evaluation.originalEnergy && evaluation.compressedEnergy)
            text += bullet(fmt::format("energy ({}): {} to {} an inference",
                                       evaluation.compressedEnergy->measured ? "measured" : "modelled",
                                       joulesText(evaluation.originalEnergy->joulesPerInference),
                                       joulesText(evaluation.compressedEnergy->joulesPerInference)));
    }
    if (!report.warnings.empty() && !report.compressed) text += '\n';
    for (const std::string& warning : report.warnings) text += bullet("**warning:** " + warning);
    return text.empty() ? text : text + '\n';
}

std::string constraintSection(const Report& report) {
    if (report.constraints.empty()) return {};
    Table table{
        {"constraint", Align::left}, {"limit"}, {"actual"}, {"outcome", Align::left}, {"", Align::left}};
    for (const ConstraintRow& row : report.constraints) {
        const std::string outcome = row.outcome == ConstraintOutcome::met      ? "met"
                                    : row.outcome == ConstraintOutcome::missed ? "**missed**"
                                                                               : "**not measured**";
        table.row(
            {row.name, numberText(row.limit), row.actual ? numberText(*row.actual) : "-", outcome, row.note});
    }
    return "## Constraints\n\n" + table.text();
}

std::string originSection(const Report& report) {
    std::string text = "## How this came about\n\n";
    if (!report.command.empty()) text += bullet(fmt::format("command: {}", code(report.command)));
    text += bullet(fmt::format("tcompress {}, {} threads{}, {:.2f} s, peak memory {}", report.toolVersion,
                               report.threads, report.seed ? fmt::format(", seed {}", *report.seed) : "",
                               report.seconds, bytesText(report.peakMemoryBytes)));
    const measure::Machine& machine = report.machine;
    if (!machine.cpuModel.empty() || !machine.operatingSystem.empty()) {
        std::string features;
        for (const std::string& feature : machine.cpuFeatures)
            features += (features.empty() ? "" : " ") + feature;
        text += bullet(fmt::format("machine: {}, {} cores, {} memory, {}; {}", machine.cpuModel,
                                   machine.logicalCores, bytesText(machine.memoryBytes),
                                   machine.operatingSystem, features));
    }
    text += '\n';
    Table files{{"file", Align::left}, {"bytes"}, {"SHA-256", Align::left}};
    const auto add = [&](const FileRecord& file) {
        if (!file.path.empty())
            files.row({code(file.path), std::to_string(file.fileBytes),
                       file.sha256.empty() ? "-" : code(file.sha256)});
    };
    for (const auto* model : {&report.original, &report.compressed}) {
        if (!*model) continue;
        add((*model)->file);
        for (const FileRecord& file : (*model)->externalData) add(file);
    }
    for (const FileRecord& file : report.data) add(file);
    if (!files.empty()) text += files.text();
    if (!report.configJson.empty())
        text += fmt::format("<details><summary>Resolved config</summary>\n\n```json\n{}\n```\n\n</details>\n",
                            nlohmann::ordered_json::parse(report.configJson).dump(2));
    return text;
}

std::string toMarkdown(const Report& report) {
    std::string text =
        "# tcompress report\n\n" + headline(report) + constraintSection(report) + sizeSection(report);
    if (report.evaluation) text += qualitySection(*report.evaluation) + costSection(*report.evaluation);
    return text + passSection(report) + originSection(report);
}

}  // namespace tcompress::report
