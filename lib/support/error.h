#pragma once
// The exceptions of tcompress. An exception is the user's to mend (a file, an option, a model); what no input can
// cause is a TCOMPRESS_CHECK (check.h). Only apps/ turns them into exit codes.

#include <stdexcept>
#include <string>

namespace tcompress {

class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// The command line or a pipeline file is wrong; the text holds every problem found, one a line.
class ConfigError : public Error {
  public:
    using Error::Error;
};

/// A model file cannot be read, written or understood. The text names the file and, where there is one, the node.
class ModelError : public Error {
  public:
    using Error::Error;
};

/// A data file is missing, malformed, or does not fit the model's inputs.
class DataError : public Error {
  public:
    using Error::Error;
};

/// A pass cannot do what was asked. The text names the pass and the site.
class PassError : public Error {
  public:
    using Error::Error;
};

/// No kernel takes this operator with these types; the text gives node, domain, version and the refusals.
class KernelError : public Error {
  public:
    using Error::Error;
};

/// The user interrupted the run.
class Cancelled : public Error {
  public:
    using Error::Error;
};

/// A bug of ours, raised by TCOMPRESS_CHECK.
class InternalError : public Error {
  public:
    using Error::Error;
};

}  // namespace tcompress
