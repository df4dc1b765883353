// tcompress man: the manual page.

#include <iostream>
#include <memory>

#include "apps/tcompress/command.h"
#include "apps/tcompress/manual.h"

namespace tcompress::cli {

Command manCommand() {
    auto markdown = std::make_shared<bool>(false);
    Command command{"man", "print the manual page (tcompress man | man -l -)", {}, {}};
    command.options.flag("--markdown", *markdown, "print it as Markdown (docs/cli.md)");
    command.action = [markdown](Session&) {
        std::cout << (*markdown ? manMarkdown(allCommands()) : manPage(allCommands()));
        return ExitCode::done;
    };
    return command;
}

}  // namespace tcompress::cli
