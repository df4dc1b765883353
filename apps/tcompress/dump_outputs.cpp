#include "apps/tcompress/dump_outputs.h"

#include <fmt/core.h>

#include <algorithm>

#include "lib/exec/fitting_executor.h"
#include "lib/support/error.h"

namespace tcompress::cli {

namespace {

Tensor joinRows(const std::string& name, const std::vector<Tensor>& parts) {
    Shape shape = parts.front().shape();
    if (shape.empty()) {
        if (parts.size() == 1) return parts.front();
        throw DataError(fmt::format("output '{}' has no axis to join batches along", name));
    }
    shape[0] = 0;
    for (const Tensor& part : parts) {
        if (part.rank() != static_cast<std::int64_t>(shape.size()) ||
            !std::equal(part.shape().begin() + 1, part.shape().end(), shape.begin() + 1))
            throw DataError(fmt::format("output '{}' is {} in one batch and {} in another", name,
                                        toString(parts.front().shape()), toString(part.shape())));
        shape[0] += part.shape()[0];
    }
    Tensor joined(parts.front().dtype(), shape);
    std::span<std::byte> target = joined.mutableBytes();
    for (const Tensor& part : parts) {
        std::copy(part.bytes().begin(), part.bytes().end(), target.begin());
        target = target.subspan(part.sizeBytes());
    }
    return joined;
}

/// The last `count` of `all` samples.
Tensor lastRows(const Tensor& output, std::int64_t all, std::int64_t count) {
    if (output.rank() == 0 || output.shape()[0] != all)
        throw DataError(fmt::format("an output of shape {} does not have an entry for each of {} samples",
                                    toString(output.shape()), all));
    std::vector<bool> keep(static_cast<std::size_t>(all), false);
    std::fill(keep.end() - count, keep.end(), true);
    return compress(output, 0, keep);
}

}  // namespace

void dumpOutputs(const ir::Model& model, const data::Dataset& dataset, std::int64_t batchSize,
                 const std::filesystem::path& file, Progress& progress) {
    const data::Dataset fitted = data::fitToModel(dataset, model);
    const std::int64_t fixed = data::fixedBatchSize(model);
    const std::int64_t step = fixed > 0 ? fixed : batchSize;
    exec::FittingExecutor executor(model);
    std::vector<std::vector<Tensor>> parts(model.graph().outputs().size());
    progress.begin("outputs", fitted.sampleCount());
    const std::int64_t count = fitted.sampleCount();
    if (count < fixed)
        throw DataError(fmt::format("the model takes {} samples at a time and the data have {}", fixed, count));
    for (std::int64_t done = 0; done < count;) {
        // The last batch of a model with a fixed size begins with samples that were run before.
        const std::int64_t begin = fixed > 0 ? std::min(done, count - fixed) : done;
        const std::int64_t end = std::min(begin + step, count);
        std::vector<Tensor> outputs = executor.run(fitted.rows(begin, end));
        for (std::size_t i = 0; i < outputs.size(); ++i)
            parts[i].push_back(done == begin ? std::move(outputs[i]) : lastRows(outputs[i], end - begin, end - done));
        progress.step(end - done);
        done = end;
    }
    progress.end();
    std::vector<std::pair<std::string, Tensor>> arrays;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const std::string& name = model.graph().outputs()[i]->name();
        if (!parts[i].empty()) arrays.emplace_back(name, joinRows(name, parts[i]));
    }
    data::writeNpz(file, arrays);
}

}  // namespace tcompress::cli
