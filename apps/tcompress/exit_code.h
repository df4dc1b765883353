#pragma once

namespace tcompress::cli {

/// What the process says to its caller; docs/cli.md lists them.
enum class ExitCode {
    done = 0,
    constraintMissed = 1,  ///< the output is written, a stated constraint does not hold
    usage = 2,             ///< command line or pipeline file
    input = 3,             ///< a model, data or a pass that cannot do what was asked of this model
    internal = 4,
    interrupted = 130,
};

}  // namespace tcompress::cli
