#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>

#include "lib/support/atomic_file.h"
#include "lib/support/error.h"
#include "lib/support/mapped_file.h"
#include "lib/support/sha256.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;
using namespace tcompress::test;
using Catch::Matchers::Contains;

TEST_CASE("an atomic file appears only with commit") {
    ScratchFolder folder;
    std::filesystem::path target = folder.path() / "out.txt";
    writeFile(target, "old");
    {
        AtomicFile file(target);
        file.write("new ");
        file.write(std::string_view("text"));
        CHECK(file.position() == 8);
        CHECK(readFile(target) == "old");
        CHECK(file.temporaryPath().parent_path() == folder.path());
        CHECK(file.temporaryPath().filename().string().starts_with(".out.txt.tmp-"));
        file.flush();
        CHECK(readFile(file.temporaryPath()) == "new text");
        file.commit();
    }
    CHECK(readFile(target) == "new text");
    CHECK(entryCount(folder.path()) == 1);
}

TEST_CASE("an atomic file that is not committed leaves nothing") {
    ScratchFolder folder;
    {
        AtomicFile file(folder.path() / "out.txt");
        file.write("text");
        CHECK(entryCount(folder.path()) == 1);
    }
    CHECK(entryCount(folder.path()) == 0);
}

TEST_CASE("an interrupt removes the temporary files there are") {
    ScratchFolder folder;
    AtomicFile first(folder.path() / "a");
    AtomicFile second(folder.path() / "b");
    AtomicFile done(folder.path() / "c");
    done.commit();
    removeTemporaryFiles();
    CHECK(entryCount(folder.path()) == 1);
    CHECK(std::filesystem::exists(folder.path() / "c"));
}

TEST_CASE("more atomic files than the table of temporary files holds still work") {
    ScratchFolder folder;
    std::vector<std::unique_ptr<AtomicFile>> files;
    for (int i = 0; i < 100; ++i) {
        files.push_back(std::make_unique<AtomicFile>(folder.path() / std::to_string(i)));
    }
    for (auto& file : files) file->commit();
    files.clear();
    CHECK(entryCount(folder.path()) == 100);
}

TEST_CASE("large and small writes come out in order") {
    ScratchFolder folder;
    std::string expected;
    AtomicFile file(folder.path() / "out");
    for (std::size_t size : {1u, 100u, 300000u, 7u, 262144u, 262143u, 1u}) {
        std::string part(size, static_cast<char>('a' + expected.size() % 26));
        file.write(part);
        expected += part;
    }
    CHECK(file.position() == expected.size());
    file.commit();
    CHECK(readFile(folder.path() / "out") == expected);
}

TEST_CASE("a file that is replaced keeps its permissions") {
    ScratchFolder folder;
    std::filesystem::path target = folder.path() / "out";
    writeFile(target, "old");
    ::chmod(target.c_str(), 0640);
    writeFileAtomically(target, "new");
    struct stat status {};
    REQUIRE(::stat(target.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0640);
}

TEST_CASE("a place that cannot be written is named with the reason") {
    ScratchFolder folder;
    CHECK_THROWS_WITH(AtomicFile(folder.path() / "none" / "out.txt"),
                      Contains("none/out.txt") && Contains("No such file or directory"));
    std::filesystem::create_directory(folder.path() / "sub");
    CHECK_THROWS_WITH(AtomicFile(folder.path() / "sub"), Contains("sub") && Contains("Is a directory"));
    writeFile(folder.path() / "file", "text");
    CHECK_THROWS_AS(AtomicFile(folder.path() / "file" / "out"), Error);
    std::string longName(300, 'x');
    CHECK_THROWS_WITH(AtomicFile(folder.path() / longName), Contains("too long"));
    CHECK(entryCount(folder.path()) == 2);
}

TEST_CASE("a write that fails is reported with the reason and leaves the old file") {
    // A limit on the size of files stands for a full disk.
    ScratchFolder folder;
    std::filesystem::path target = folder.path() / "out";
    writeFile(target, "old");
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    rlimit small{4096, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    std::string message;
    try {
        writeFileAtomically(target, std::string(1 << 20, 'x'));
    } catch (const Error& error) {
        message = error.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    CHECK_THAT(message, Contains("cannot write " + target.string()) && Contains("too large"));
    CHECK(readFile(target) == "old");
    CHECK(entryCount(folder.path()) == 1);
}

TEST_CASE("a mapped file shows the bytes and outlives its path") {
    ScratchFolder folder;
    std::filesystem::path path = folder.path() / "data";
    std::string text(10000, 'q');
    text += "end";
    writeFile(path, text);
    std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    REQUIRE(file->bytes().size() == text.size());
    std::filesystem::remove(path);
    CHECK(std::memcmp(file->bytes().data(), text.data(), text.size()) == 0);
    file->release(file->bytes());
    releaseIfMapped(file->bytes().subspan(5000, 10));
    CHECK(std::memcmp(file->bytes().data(), text.data(), text.size()) == 0);
}

TEST_CASE(
    "a part of a mapped file is read, also of the last of many that are open, and one cut short is named") {
    ScratchFolder folder;
    const std::filesystem::path path = folder.path() / "data";
    std::string text(10000, 'q');
    text.replace(5000, 3, "abc");
    writeFile(path, text);
    std::vector<std::shared_ptr<const MappedFile>> files;
    for (int i = 0; i < 150; ++i) files.push_back(MappedFile::open(path));
    for (const auto& file : {files.front(), files.back()}) {
        std::array<std::byte, 4> found{};
        REQUIRE(readIfMapped(file->bytes().subspan(4999, 4), found.data()));
        CHECK(std::memcmp(found.data(), "qabc", 4) == 0);
    }
    std::filesystem::resize_file(path, 5001);
    std::array<std::byte, 4> found{};
    CHECK_THROWS_WITH(files.front()->read(files.front()->bytes().subspan(4999, 4), found.data()),
                      Contains("data: it became shorter"));
}

TEST_CASE("more files are mapped than a process may have open") {
    ScratchFolder folder;
    const std::filesystem::path path = folder.path() / "data";
    writeFile(path, "abc");
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    rlimit few{64, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    std::vector<std::shared_ptr<const MappedFile>> files;
    std::string message;
    try {
        while (files.size() < 90) files.push_back(MappedFile::open(path));
    } catch (const Error& error) {
        message = error.what();
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(message.empty());
    std::array<std::byte, 3> found{};
    REQUIRE(readIfMapped(files.back()->bytes(), found.data()));
    CHECK(std::memcmp(found.data(), "abc", 3) == 0);
}

TEST_CASE("memory that is no mapped file is not released, nor read from one") {
    std::vector<std::byte> bytes(1 << 20, std::byte{7});
    std::array<std::byte, 4> target{};
    CHECK_FALSE(readIfMapped(std::span(bytes).first(4), target.data()));
    CHECK(target[0] == std::byte{});
    releaseIfMapped(bytes);
    CHECK(std::count(bytes.begin(), bytes.end(), std::byte{7}) == 1 << 20);
    releaseIfMapped({});
}

TEST_CASE("what cannot be mapped is named with the reason") {
    ScratchFolder folder;
    CHECK_THROWS_WITH(MappedFile::open(folder.path() / "none"),
                      Contains("none") && Contains("No such file or directory"));
    CHECK_THROWS_WITH(MappedFile::open(folder.path()), Contains("it is a folder"));
    CHECK_THROWS_WITH(MappedFile::open("/dev/null"), Contains("not a regular file"));
    std::filesystem::path pipe = folder.path() / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    CHECK_THROWS_WITH(MappedFile::open(pipe), Contains("not a regular file"));
    writeFile(folder.path() / "empty", "");
    CHECK(MappedFile::open(folder.path() / "empty")->bytes().empty());
}

TEST_CASE("SHA-256 gives the published values") {
    auto of = [](std::string_view text) { return sha256(std::as_bytes(std::span(text))); };
    // FIPS 180-2, appendix B.
    CHECK(of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");

    ScratchFolder folder;
    std::string million(1000000, 'a');
    writeFile(folder.path() / "million", million);
    CHECK(sha256OfFile(folder.path() / "million") ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    Sha256 pieces;
    for (std::size_t i = 0; i < million.size(); i += 999) {
        pieces.update(
            std::as_bytes(std::span(million).subspan(i, std::min<std::size_t>(999, million.size() - i))));
    }
    CHECK(pieces.hexDigest() == of(million));
}
