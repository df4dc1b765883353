"""The files of one case, laid out as the onnx package ships them: model.onnx and test_data_set_N/{input,output}_M.pb."""
from onnx import TensorProto, numpy_helper


def to_proto(value, info):
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(value, info.name)


def write_case(folder, model, data_sets):
    """data_sets: pairs of lists (inputs, outputs) in the order of the graph's inputs and outputs."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for number, (inputs, outputs) in enumerate(data_sets):
        data = folder / f"test_data_set_{number}"
        data.mkdir()
        for kind, values, infos in ("input", inputs, model.graph.input), ("output", outputs, model.graph.output):
            for i, (value, info) in enumerate(zip(values, infos, strict=True)):
                (data / f"{kind}_{i}.pb").write_bytes(to_proto(value, info).SerializeToString())
