#include <fcntl.h>
#include <unistd.h>

#include <csignal>

#include "apps/tcompress/cli.h"
#include "lib/pipeline/staged_output.h"
#include "lib/support/atomic_file.h"
#include "lib/support/progress.h"

namespace {

volatile std::sig_atomic_t interrupts = 0;

/// The first interrupt lets the work stop at its next step and tidy up; the second one ends the process at
/// once.
void onInterrupt(int) {
    interrupts = interrupts + 1;
    tcompress::Progress::requestCancel();
    if (interrupts < 2) return;
    tcompress::removeTemporaryFiles();
    tcompress::pipeline::removeStagedOutput();
    ::_exit(static_cast<int>(tcompress::cli::ExitCode::interrupted));
}

/// A file that is opened while one of the standard three is closed would get its number, and what is printed.
void openStandardDescriptors() {
    for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::fcntl(descriptor, F_GETFD) == -1) ::open("/dev/null", O_RDWR);
}

}  // namespace

int main(int argc, char** argv) {
    openStandardDescriptors();
    struct sigaction action {};
    action.sa_handler = onInterrupt;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
    // Unless it was started to survive that (nohup).
    if (std::signal(SIGHUP, SIG_IGN) != SIG_IGN) ::sigaction(SIGHUP, &action, nullptr);
    // A reader that goes away and a file that may grow no more are errors of write(), not the end of the process: temporary
    // files are removed then.
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
    return static_cast<int>(tcompress::cli::runCommandLine(argc, argv));
}
