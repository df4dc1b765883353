// Thousands of damaged variants of one small model that has a bit of everything. Each is either refused with
// a ModelError or is a sound model: then it passes the structural checks, can be cloned, edited and saved,
// and what was saved loads. The damage follows from a number, which a failure prints; TCOMPRESS_FUZZ_ROUNDS
// asks for more of them.

#include <catch2/catch.hpp>
#include <cstdlib>

#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "lib/support/error.h"
#include "lib/support/log.h"
#include "lib/support/random.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;
using namespace tcompress::test;

namespace {

onnx::ModelProto variedModel() {
    onnx::ModelProto proto = ir::modelToProto(ir::fromText(R"(
        <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1], producer_name: "fuzz">
        g (float[n,4] x, bool c) => (float[n,4] y, float[k] z)
        <float[4,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, int64[2] s = {-1,4}, float[n,4] h, float[2] big = {0,0}>
        {
            k = Constant <value = float[4] {1,2,3,4}> ()
            l = Constant <value_ints = [0, 1]> ()
            m = MatMul(x, w)
            r = Reshape(m, s)
            h = com.microsoft.FastGelu(r, k)
            i = If(c) <then_branch = t () => (float[n,4] a) { a = Add(h, k) },
                       else_branch = e () => (float[n,4] b) { b = Neg(h) }>
            y = Softmax <axis = -1> (i)
            z = ReduceMean <keepdims = 0> (y, l)
        })"),
                                              ir::WeightData::embed);
    onnx::GraphProto& graph = *proto.mutable_graph();
    onnx::TensorProto& big = *graph.mutable_initializer(2);
    big.clear_float_data();
    big.set_dims(0, 300);
    big.set_raw_data(std::string(1200, '\x11'));
    onnx::TensorProto& varints = *graph.add_initializer();
    varints.set_name("varints");
    varints.set_data_type(onnx::TensorProto::INT64);
    varints.add_dims(600);
    for (int i = 0; i < 600; ++i) varints.add_int64_data(i * 3);
    onnx::TensorProto& external = *graph.add_initializer();
    external.set_name("external");
    external.set_data_type(onnx::TensorProto::FLOAT16);
    external.add_dims(8);
    external.set_data_location(onnx::TensorProto::EXTERNAL);
    for (const auto& [key, value] :
         {std::pair("location", "weights.bin"), {"offset", "16"}, {"length", "16"}}) {
        onnx::StringStringEntryProto& entry = *external.add_external_data();
        entry.set_key(key);
        entry.set_value(value);
    }
    onnx::SparseTensorProto& sparse = *graph.add_sparse_initializer();
    sparse.mutable_values()->set_name("sparse");
    sparse.mutable_values()->set_data_type(onnx::TensorProto::FLOAT);
    sparse.mutable_values()->add_dims(2);
    sparse.mutable_values()->add_float_data(1);
    sparse.mutable_values()->add_float_data(2);
    sparse.mutable_indices()->set_data_type(onnx::TensorProto::INT64);
    sparse.mutable_indices()->add_dims(2);
    sparse.mutable_indices()->add_int64_data(0);
    sparse.mutable_indices()->add_int64_data(7);
    sparse.add_dims(3);
    sparse.add_dims(3);
    return proto;
}

void damage(std::string& bytes, Random& random) {
    auto place = [&] { return static_cast<std::size_t>(random.below(bytes.size())); };
    auto length = [&](std::size_t from) {
        return std::min<std::size_t>(bytes.size() - from, static_cast<std::size_t>(1 + random.below(24)));
    };
    std::size_t at = place();
    switch (random.below(7)) {
        case 0:
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
            break;
        case 1:
            bytes[at] = static_cast<char>(random.below(256));
            break;
        case 2: {
            constexpr char telling[] = {'\x00', '\x01', '\x7f', '\x80', '\xff'};
            bytes[at] = telling[random.below(sizeof(telling))];
            break;
        }
        case 3:
            bytes.erase(at, length(at));
            break;
        case 4:
            bytes.insert(place(), bytes.substr(at, length(at)));
            break;
        case 5: {
            std::size_t from = place();
            std::string part = bytes.substr(from, length(from));
            bytes.replace(at, std::min(part.size(), bytes.size() - at), part);
            break;
        }
        default:
            bytes.resize(std::max<std::size_t>(1, at));
    }
}

/// Every save waits for the disk, which would take most of the time.
enum class Saving { yes, no };

/// True when the model was sound.
bool tryModel(const std::filesystem::path& file, const std::filesystem::path& copy, Saving saving) {
    std::optional<ir::Model> model;
    try {
        model = ir::load(file);
    } catch (const ModelError& error) {
        REQUIRE(std::string(error.what()).find('\n') == std::string::npos);
        return false;
    }
    ir::validateStructure(*model);
    ir::Model clone = model->clone();
    ir::removeDeadCode(clone);
    ir::validateStructure(clone);
    REQUIRE(ir::modelToProto(*model, ir::WeightData::embed).graph().node_size() ==
            static_cast<int>(model->graph().nodes().size()));
    if (saving == Saving::no) return true;
    ir::SaveOptions options;
    options.check = false;
    ir::save(*model, copy, options);
    ir::Model again = ir::load(copy);
    REQUIRE(again.graph().nodes().size() == model->graph().nodes().size());
    REQUIRE(again.constantBytes() == model->constantBytes());
    try {
        ir::checkFile(copy);
    } catch (const ModelError&) {
        // ONNX's rules are stricter than ours.
    }
    return true;
}

}  // namespace

TEST_CASE("damaged models are refused or sound") {
    const char* asked = std::getenv("TCOMPRESS_FUZZ_ROUNDS");
    const int rounds = asked != nullptr ? std::atoi(asked) : 2500;
    log::configure(log::Level::error, log::Format::text);
    ScratchFolder folder;
    std::filesystem::path file = folder.path() / "model.onnx";
    std::filesystem::path copy = folder.path() / "copy.onnx";
    writeFile(folder.path() / "weights.bin", std::string(40, '\x3c'));
    const std::string sound = variedModel().SerializeAsString();
    writeFile(file, sound);
    REQUIRE(tryModel(file, copy, Saving::yes));

    int accepted = 0;
    for (int round = 0; round < rounds; ++round) {
        CAPTURE(round);
        Random random(static_cast<std::uint64_t>(round), "damage");
        std::string bytes = sound;
        for (std::uint64_t count = 1 + random.below(3); count > 0; --count) damage(bytes, random);
        writeFile(file, bytes);
        accepted += tryModel(file, copy, round % 10 == 0 ? Saving::yes : Saving::no) ? 1 : 0;
    }
    log::configure(log::Level::info, log::Format::text);
    // Neither everything nor nothing: otherwise the damage tests one side only.
    CHECK(accepted > rounds / 20);
    CHECK(accepted < rounds / 10 * 9);
}
