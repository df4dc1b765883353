#include <fmt/core.h>

#include "lib/ir/stored_tensor.h"
#include "lib/support/error.h"

namespace tcompress::ir {
namespace {

bool isInside(const std::filesystem::path& file, const std::filesystem::path& folder) {
    auto mismatch = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
    return mismatch.first == folder.end() && mismatch.second != file.end();
}

}  // namespace

std::shared_ptr<const MappedFile> ExternalFiles::open(const std::string& location) {
    std::shared_ptr<const MappedFile>& file = files_[location];
    if (file) return file;

    std::filesystem::path relative(location);
    auto refuse = [&](const char* reason) {
        throw ModelError(fmt::format("external data path '{}' {}; it must stay in the model's folder",
                                     location.c_str(), reason));
    };
    if (location.empty()) refuse("is empty");
    if (location.find('\0') != std::string::npos) refuse("holds a zero byte");
    if (relative.is_absolute()) refuse("is absolute");
    for (const std::filesystem::path& part : relative) {
        if (part == "..") refuse("goes up with '..'");
    }
    std::filesystem::path folder = std::filesystem::weakly_canonical(folder_.empty() ? "." : folder_);
    std::filesystem::path target = std::filesystem::weakly_canonical(folder / relative);
    if (!isInside(target, folder)) refuse("leads out of the folder by a symbolic link");
    file = MappedFile::open(target);
    return file;
}

}  // namespace tcompress::ir
