package rules

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/kedge-build/kedge/internal/format/pyc"
)

// table holds the rules of version 2 and later.
var table = []Rule{
	{
		ID: Repeats, since: 2,
		What:  "An entry that repeats the layers below is dropped: same type, content, mode, owner and extended attributes. So is a hard link to a file that they have by that name. A folder stays if something comes into it or goes.",
		Why:   "It changes nothing but a time, and which such entries a layer has depends on the snapshotter.",
		Never: "An entry that changes anything but a time stays, and so does a file with another time before the epoch.",
		Link:  layerSpec,
	},
	{
		ID: WhiteoutOfNothing, since: 2,
		What:  "A whiteout is dropped if the layers below have nothing for it to hide.",
		Why:   "It hides what an earlier step of the build made and another rule has dropped.",
		Never: "A whiteout of a file that exists stays.",
		Link:  layerSpec + "#whiteouts",
	},
	{
		ID: "package-manager-logs", since: 2, log: true,
		What:   "Logs of package managers are dropped.",
		Why:    "They say when packages were installed, and the next run begins a new one.",
		Never:  "A file whose lines do not have the form of that log stays; in logs of dnf, yum, zypper and apk that is the first and the last one. So does a log that was shortened, or that replaces one with other lines.",
		Link:   "https://wiki.debian.org/ReproducibleInstalls",
		paths:  []string{"var/log/apt/history.log", "var/log/apt/term.log", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log", "var/log/apk.log", "var/log/dnf.log", "var/log/dnf5.log", "var/log/dnf.librepo.log", "var/log/dnf.rpm.log", "var/log/hawkey.log", "var/log/yum.log", "var/log/zypper.log", "var/log/zypp/history", "var/log/pacman.log", "var/log/aptitude"},
		covers: isPackageLog,
	},
	{
		ID: "system-logs", since: 2, head: true, log: true,
		What:   "The journal and fontconfig's log are dropped.",
		Why:    "Their writers make them if they are absent.",
		Never:  "A file that is neither a journal nor lines of fc-cache stays, and so does the record of last logins.",
		Link:   "https://systemd.io/JOURNAL_FILE_FORMAT/",
		paths:  []string{"var/log/journal/**", "var/log/fontconfig.log"},
		covers: isSystemLog,
	},
	{
		ID: "login-records", since: 2, log: true, empties: true,
		What:    "Records of logins during the build are emptied.",
		Why:     "They belong to the build. The file stays, since nothing is recorded if it is absent.",
		Never:   "A file that does not consist of whole records stays, and the records that a base image has stay.",
		Link:    "https://manpages.debian.org/bookworm/manpages/utmp.5.en.html",
		paths:   []string{"var/log/wtmp", "var/log/btmp", "run/utmp"},
		covers:  isLoginRecords,
		rewrite: func([]byte, Facts) []byte { return nil },
	},
	{
		ID: "ldconfig-aux-cache", since: 2, head: true,
		What:   "The auxiliary cache of ldconfig is dropped.",
		Why:    "It holds inode numbers and times, to make the next ldconfig faster; programs use /etc/ld.so.cache.",
		Never:  "A file without the mark of that cache stays.",
		Link:   "https://manpages.debian.org/bookworm/libc-bin/ldconfig.8.en.html",
		paths:  []string{"var/cache/ldconfig/aux-cache"},
		covers: begins("glibc-ld.so.auxcache-"),
	},
	{
		ID: "package-manager-caches", since: 2, head: true,
		What:   "Binary caches of package lists are dropped.",
		Why:    "apt and dnf compute them from the lists when they need them.",
		Never:  "The lists, packages and configuration beside them stay.",
		Link:   "https://manpages.debian.org/bookworm/apt/apt-cache.8.en.html",
		paths:  []string{"var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin", "var/cache/dnf/*.solv", "var/cache/dnf/*.solvx", "var/cache/libdnf5/*/solv/*", "var/cache/yum/**/*.solv", "var/cache/yum/**/*.solvx"},
		covers: anyOf(begins("\xdc\x76\xfe\x98"), begins("SOLV")),
	},
	{
		ID: "package-manager-backups", since: 2, head: true,
		What:   "Copies that dpkg, apt and debconf keep of the state before are dropped, and so is the last problem that apt gave to its solver.",
		Why:    "They let an administrator go back one step, and programs use the state itself.",
		Never:  "A file without the fields of that state stays, and so does everything in /var/backups.",
		Link:   "https://manpages.debian.org/bookworm/dpkg/dpkg.1.en.html",
		paths:  []string{"var/lib/dpkg/*-old", "var/cache/debconf/*-old", "var/lib/apt/extended_states.*", "var/log/apt/eipp.log.xz"},
		name:   regexp.MustCompile(`/(?:status|available|diversions|statoverride|(?:config|passwords|templates)\.dat)-old$|/extended_states\.\d+$|/eipp\.log\.xz$`),
		covers: isPackageState,
	},
	{
		ID: "password-dates", since: 2,
		What:    "The day on which a RUN made an account or set a password becomes the day of the epoch.",
		Why:     "It is the day of the build, if the program that made the account did not follow SOURCE_DATE_EPOCH.",
		Never:   "A date that is not the day of the build stays. So does the date of an account whose password expires.",
		Link:    "https://manpages.debian.org/bookworm/passwd/shadow.5.en.html",
		paths:   []string{"etc/shadow", "etc/shadow-"},
		rewrite: clampPasswordDates,
	},
	{
		ID: "machine-id", since: 2, choice: true, value: true, asked: regexp.MustCompile(`machine-id`),
		What:    "A machine id that systemd made up is emptied. One that D-Bus made up, that the Dockerfile names or that a link leads to is replaced by one that follows from the epoch.",
		Why:     "Two builds never make up the same. An empty one is replaced at the first boot; D-Bus needs one, and so may whoever wrote it.",
		Never:   "An id that the Dockerfile, an argument or another file of the image names stays, and so does one that no tool makes up, or that a RUN with a bind mount or a secret wrote.",
		Link:    "https://manpages.debian.org/bookworm/systemd/machine-id.5.en.html",
		paths:   []string{"etc/machine-id"},
		covers:  isMadeUpID,
		rewrite: replaceMachineID,
	},
	{
		ID: "dbus-machine-id", since: 2, choice: true, value: true,
		What:    "A machine id that dbus-uuidgen made up is replaced by one that follows from the epoch.",
		Why:     "Two builds never make up the same, and without one D-Bus fails in a container that has no init. docker build leaves one id to all containers of an image, too.",
		Never:   "An id that the Dockerfile, an argument or another file of the image names stays, and so does one that no tool makes up, or that a RUN with a bind mount or a secret wrote.",
		Link:    "https://dbus.freedesktop.org/doc/dbus-uuidgen.1.html",
		paths:   []string{"var/lib/dbus/machine-id"},
		covers:  isMadeUpID,
		rewrite: func(_ []byte, f Facts) []byte { return derivedMachineID(f.Epoch) },
	},
	{
		ID: "random-seeds", since: 2, log: true,
		What:   "Random seeds are dropped.",
		Why:    "Containers of one image must not share them, and the boot makes new ones.",
		Never:  "A file that is text, that repeats few bytes, or that has another size than a seed, stays, and so does one that replaces a lower layer's.",
		Link:   "https://manpages.debian.org/bookworm/systemd/systemd-random-seed.service.8.en.html",
		paths:  []string{"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/random-seed", "boot/loader/random-seed", "boot/efi/loader/random-seed"},
		covers: isSeed,
	},
	{
		ID: "fontconfig-caches", since: 2, head: true,
		What:   "Font caches are dropped.",
		Why:    "They hold times of folders; fontconfig scans the fonts if there is no cache.",
		Never:  "A file without the mark of a font cache stays, such as fonts.conf.",
		Link:   "https://manpages.debian.org/bookworm/fontconfig/fc-cache.1.en.html",
		paths:  []string{"var/cache/fontconfig/**", "usr/lib/fontconfig/cache/**", "~/.cache/fontconfig/**", "~/.fontconfig/**"},
		covers: anyOf(begins("\x04\xfc\x02\xfc"), begins("\xfc\x02\xfc\x04")),
	},
	{
		ID: "fontconfig-ids", since: 2,
		What:   "The random .uuid that fontconfig 2.13 writes into each folder of fonts is dropped.",
		Why:    "It only names the cache of that folder; fontconfig works without it, and later versions write none.",
		Never:  "A file that is not one UUID stays, and so does one in another folder, or that a base image has.",
		Link:   "https://gitlab.freedesktop.org/fontconfig/fontconfig/-/issues/129",
		paths:  []string{"usr/share/fonts*/**/.uuid", "usr/share/**/fonts/**/.uuid", "usr/share/poppler/**/.uuid", "usr/local/share/fonts/**/.uuid", "usr/X11R6/lib/X11/fonts/**/.uuid", "var/lib/ghostscript/fonts/**/.uuid", "opt/**/fonts/**/.uuid", "~/.fonts/**/.uuid", "~/.local/share/fonts/**/.uuid"},
		covers: isFontID,
	},
	{
		ID: "man-caches", since: 2, head: true, asked: regexp.MustCompile(`\b(?:mandb|catman|whatis|apropos|makewhatis)\b|\bman -\w*[kf]`),
		What:   "Indexes of manual pages are dropped if they hold a time after the epoch.",
		Why:    "It is the time of a page that the build made; man finds pages without an index; whatis and apropos need mandb, which a daily job runs.",
		Never:  "An index of pages that packages brought stays, and so does a file that is not a GDBM database. So do all indexes if the Dockerfile has the word mandb, whatis or apropos.",
		Link:   "https://manpages.debian.org/bookworm/man-db/mandb.8.en.html",
		paths:  []string{"var/cache/man/**"},
		covers: isManIndex,
	},
	{
		ID: "language-caches", since: 2, head: true, offline: true,
		What:   "Caches of downloads and builds in home directories are dropped, if their times cannot be evened out.",
		Why:    "They hold times, random names or the state of a server, and are filled again when they are needed; what was installed from them is elsewhere.",
		Never:  "Configuration, packages and wheels in the same folders stay, and so does every file without the form of the tool's own. So does everything if a variable or the command of the image has the word offline, no-index or ccache.",
		Link:   "https://pip.pypa.io/en/stable/topics/caching/",
		paths:  languageCaches,
		covers: isLanguageCache,
	},
	{
		ID: "language-cache-folders", since: 2, whole: true, offline: true,
		What:  "Folders with random names in the caches of uv, cpanm and Yarn are dropped.",
		Why:   "Only the cache's own index finds them; what was installed from them is elsewhere.",
		Never: "A folder without such a name stays, and so does what a link, a hard link, an environment variable or a VOLUME leads to. So does everything if a variable or the command of the image has the word offline.",
		Link:  "https://docs.astral.sh/uv/concepts/cache/",
		paths: []string{"~/.cache/uv/archive-v0/*", "~/.cache/uv/builds-v0/.tmp*", "~/.cpanm/work/*", "~/.cpanm/build.log", "~/.cpanm/latest-build", "~/.cache/yarn/v*/.tmp/*", "usr/local/share/.cache/yarn/v*/.tmp/*"},
		name:  regexp.MustCompile(`/archive-v0/[A-Za-z0-9_-]{18,22}(/|$)|/builds-v0/\.tmp[A-Za-z0-9]{6}(/|$)|/\.cpanm/(work/\d{9,11}\.\d+(/|$)|build\.log$|latest-build$)|/yarn/v\d+/\.tmp/[0-9a-f]{32}[^/]*(/|$)`),
	},
	{
		ID: "npm-cache", since: 2,
		What:    "In the index of npm's cache, times become the epoch, and the entries are sorted.",
		Why:     "npm finds a package by its key and checks its hash; with --offline it takes no notice of the times.",
		Never:   "The packages themselves stay, and so does an index with a line that is not npm's.",
		Link:    "https://github.com/npm/cacache",
		paths:   []string{"~/.npm/_cacache/index-v5/**"},
		covers:  isNpmIndex,
		rewrite: evenNpmIndex,
	},
	{
		ID: "npm-logs", since: 2, head: true, log: true,
		What:   "Logs of npm in home directories are dropped.",
		Why:    "Their names are the time of the build, and nothing reads them.",
		Never:  "A file that does not begin as such a log stays, and so does an edit of what a lower layer has.",
		Link:   "https://docs.npmjs.com/cli/v10/using-npm/logging",
		paths:  []string{"~/.npm/_logs/*.log"},
		covers: matches(`^0 (verbose|info|silly|timing|http|warn) `),
	},
	{
		ID: "go-cache", since: 2,
		What:    "In Go's build cache, the time of each entry and of the last trim becomes the epoch.",
		Why:     "They tell go when to trim the cache; entries are found by hash.",
		Never:   "The objects stay, and so does a file without the form of an entry.",
		Link:    "https://pkg.go.dev/cmd/go#hdr-Build_and_test_caching",
		paths:   []string{"~/.cache/go-build/*/*-a", "~/.cache/go-build/trim.txt"},
		covers:  isGoCacheEntry,
		rewrite: built(clampGoCache),
	},
	{
		ID: "go-telemetry", since: 2,
		What:   "Counters of Go's telemetry are dropped.",
		Why:    "They count what the build ran, and go begins new ones.",
		Never:  "The mode that was chosen stays.",
		Link:   "https://go.dev/doc/telemetry",
		paths:  []string{"~/.config/go/telemetry/local/**"},
		covers: anyOf(begins("# telemetry/counter file v1\n"), matches(`^\d\n$`)),
	},
	{
		ID: "maven-times", since: 2,
		What:    "Times in what Maven records about downloads become the epoch, and the lines are sorted.",
		Why:     "Maven compares the names in them; a time only decides when it asks a server again.",
		Never:   "A file without Maven's first lines stays.",
		Link:    "https://maven.apache.org/resolver/local-repository.html",
		paths:   []string{"~/.m2/repository/**/_remote.repositories", "~/.m2/repository/**/resolver-status.properties", "~/.m2/repository/**/*.lastUpdated"},
		covers:  isMavenRecord,
		rewrite: evenMavenRecord,
	},
	{
		ID: "histories", since: 2, log: true,
		What:   "What wget, less and Vim remember is dropped.",
		Why:    "It belongs to the build, and every program does without.",
		Never:  "A file without the first line of the tool stays, and so does the history of a shell. So does an edit of what a lower layer has.",
		Link:   "https://www.gnu.org/software/wget/manual/html_node/HTTPS-_0028SSL_002fTLS_0029-Options.html",
		paths:  []string{"~/.wget-hsts", "~/.lesshst", "~/.viminfo"},
		covers: anyOf(begins("# HSTS 1.0 Known Hosts database for GNU Wget.\n"), begins(".less-history-file:\n"), begins("# This viminfo file was generated by Vim")),
	},
	{
		ID: "tmp-leftovers", since: 2, whole: true, private: true, asked: regexp.MustCompile(`(?i)compile[-_]?cache`),
		What:  "What known tools leave in /tmp and /var/tmp under a random name, or one with the number of a process, is dropped.",
		Why:   "It belongs to a process that has ended.",
		Never: "A name that a person would choose stays, and so does everything else in /tmp. So does what pip, dnf or apt may have named if others can read it: they make private folders and files.",
		Link:  "https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch03s18.html",
		paths: []string{"tmp/*", "var/tmp/*"},
		name:  tmpNames,
	},
	{
		ID: "python-bytecode", since: 2,
		What:    "In compiled Python files the time of the source follows what becomes of the source's own time. In those of Python 3.8 to 3.10, constant sets are sorted, and objects are marked as shared if they are.",
		Why:     "Python takes a compiled file for fresh only if it names the source's time. The order of a set depends on a random seed, which Debian's py3compile does not let a variable fix, and means nothing.",
		Never:   "A file that CPython did not write stays: its whole header and the code object behind it are checked. Code that is not understood as a whole stays.",
		Link:    "https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation",
		paths:   []string{"**/*.pyc"},
		covers:  func(content []byte, _ Facts) bool { return isCompiled(content) },
		rewrite: func(content []byte, f Facts) []byte { return rewritePyc(pyc.Canonical(content), f) },
	},
	{
		ID: "apk-scripts", since: 2,
		What:    "Times after the epoch in apk's archive of package scripts become the epoch.",
		Why:     "apk reads the scripts and their checksums in the names, and not the times.",
		Never:   "The scripts and their order stay.",
		Link:    "https://wiki.alpinelinux.org/wiki/Apk_spec",
		paths:   []string{"lib/apk/db/scripts.tar", "usr/lib/apk/db/scripts.tar"},
		rewrite: built(clampTar),
	},
	{
		ID: "gzip-header", since: 2, asked: signing, spares: true,
		What:    "A time after the epoch in the header of a gzip file becomes the epoch.",
		Why:     "Only gunzip -N uses it, as the time of what it unpacks; the data behind it stay.",
		Never:   "A file with a signature beside it stays, and so does one with a time that is later than the file. So do all if the Dockerfile signs something, or computes a checksum of another kind.",
		Link:    "https://www.rfc-editor.org/rfc/rfc1952",
		paths:   []string{"**/*.gz", "**/*.tgz", "**/*.svgz"},
		covers:  func(content []byte, _ Facts) bool { return isGzip(content) },
		rewrite: built(clampGzip),
	},
	{
		ID: "zip-header", since: 2, asked: signing, spares: true,
		What:    "Times after the epoch in the headers of zip archives become the epoch.",
		Why:     "They are the times of the unpacked files; the data stay, and so do signatures, which are over the data.",
		Never:   "An archive with an encrypted file stays, since its password is checked by a time. So does one with a signature beside it, and one with a time that is later than the archive. So do all if the Dockerfile signs something, or computes a checksum of another kind.",
		Link:    "https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT",
		paths:   []string{"**/*.zip", "**/*.jar", "**/*.war", "**/*.whl", "**/*.egg", "**/*.ear", "**/*.epub", "**/*.docx", "**/*.odt", "**/*.xlsx", "**/*.ods", "~/.cache/sccache/**"},
		covers:  begins("PK"),
		rewrite: built(clampZip),
	},
	{
		ID: ContextGit, since: 2,
		What:  "The .git folder of a checkout in a build context, and those of its submodules, are sent as git clone makes them: the index lists the files and nothing else, each branch is a file, tags and branches of remotes are in packed-refs, each log has one line, modes are those of the usual umask. ORIG_HEAD, FETCH_HEAD, COMMIT_EDITMSG, samples of hooks, templates without content, commit graphs, reverse indexes of packs, lists for servers without git and temporary files are left out.",
		Why:   "Two clones of a commit differ in these alone, and git works without them or makes them again.",
		Never: "Objects, packs, the configuration, hooks, stashes, notes, what git excludes and everything that git does not make by itself stay; so do a bare repository, modes with core.sharedRepository or --context-modes=keep, a .git folder in an archive, and one if a step or an ignore file names a part of it.",
		Link:  "https://git-scm.com/docs/gitrepository-layout",
	},
	{
		ID: "git-index", since: 2,
		What:    "In the index of a git work tree, what git remembers of the files' inodes, owners, times and sizes is cleared.",
		Why:     "It describes the build's file system; git compares a file's content if it does not fit. Hashes, modes, paths and marks stay.",
		Never:   "An index that is not understood as a whole stays.",
		Link:    "https://git-scm.com/docs/index-format",
		paths:   []string{"**/.git/index", "**/.git/modules/**/index", "**/.git/worktrees/*/index"},
		covers:  func(content []byte, _ Facts) bool { return isGitIndex(content) },
		rewrite: neutralIndex,
	},
	{
		ID: "git-reflog", since: 2,
		What:    "Times after the epoch in the logs of git references become the epoch.",
		Why:     "They say when the build moved a branch; the entries stay in their order.",
		Never:   "A file with a line that is not a reflog's stays.",
		Link:    "https://git-scm.com/docs/git-reflog",
		paths:   []string{"**/.git/logs/**", "**/.git/modules/**/logs/**", "**/.git/worktrees/*/logs/**"},
		rewrite: clampReflog,
	},
	{
		ID: "java-trust-store", since: 2,
		What:    "Dates after the epoch in Java's store of trusted certificates become the epoch.",
		Why:     "They say when each entry was added, and only keytool shows them; the checksum at the end is computed again.",
		Never:   "A store with a private key, or with another password than the usual one, stays.",
		Link:    "https://docs.oracle.com/en/java/javase/21/docs/specs/man/keytool.html",
		paths:   []string{"etc/ssl/certs/java/cacerts", "usr/lib/jvm/*/lib/security/cacerts"},
		covers:  func(content []byte, _ Facts) bool { return isTrustStore(content) },
		rewrite: built(clampTrustStore),
	},
	{
		ID: "configure-logs", since: 2,
		What:   "Logs of configure scripts are dropped.",
		Why:    "They hold names of temporary files, for a reader when a test fails; the results are in config.status, which begins a new log.",
		Never:  "A file that lacks the head and the platform section of autoconf's log stays, and so does a copy of that log beside which there is neither configure nor config.status.",
		Link:   "https://www.gnu.org/software/autoconf/manual/autoconf-2.71/html_node/config_002estatus-Invocation.html",
		paths:  []string{"**/config.log"},
		covers: isAutoconfLog,
		beside: []string{"config.status", "configure"},
	},
	{
		ID: "build-logs", since: 2, head: true,
		What:   "Logs of the tests that CMake makes, and of the building of gems' extensions, are dropped.",
		Why:    "They hold names of temporary folders, for a reader when a build fails, and nothing else reads them.",
		Never:  "A file without the words of these logs stays.",
		Link:   "https://cmake.org/cmake/help/latest/manual/cmake-configure-log.7.html",
		paths:  []string{"**/CMakeFiles/CMakeOutput.log", "**/CMakeFiles/CMakeError.log", "**/CMakeFiles/CMakeConfigureLog.yaml", "**/extensions/*/*/*/gem_make.out", "**/extensions/*/*/*/mkmf.log"},
		covers: isBuildLog,
	},
	{
		ID: "ninja-log", since: 2,
		What:    "In Ninja's log of a build, times after the epoch become the epoch, how long commands took is left out, and the entries are sorted.",
		Why:     "Ninja compares the time with those of the inputs, which are clamped as well, and has nothing to do afterwards.",
		Never:   "The hashes of the commands stay, and so does a file with a line that is not Ninja's.",
		Link:    "https://ninja-build.org/manual.html#ref_log",
		paths:   []string{"**/.ninja_log"},
		covers:  isNinjaLog,
		rewrite: evenNinjaLog,
	},
	{
		ID: "ninja-deps", since: 2,
		What:    "In Ninja's record of the headers that a compiler read, times after the epoch become the epoch, and the outputs are sorted.",
		Why:     "The order is that in which the commands of a parallel build ended; Ninja takes a record for old only if the output is newer.",
		Never:   "The headers of each output stay, and so does a file that breaks the format.",
		Link:    "https://ninja-build.org/manual.html#_deps",
		paths:   []string{"**/.ninja_deps"},
		covers:  isNinjaDeps,
		rewrite: evenNinjaDeps,
	},
	{
		ID: "cargo-fingerprints", since: 2,
		What:   "What Cargo remembers of a unit that it built is dropped if it names a time after the epoch as that of a source, and so is what it remembers of the units that depend on it.",
		Why:    "Cargo compares the time with that of the source, which is clamped, and so builds these units again in any case.",
		Never:  "The record of any other unit stays, and so does everything that was compiled.",
		Link:   "https://doc.rust-lang.org/nightly/nightly-rustc/cargo/core/compiler/fingerprint/index.html",
		paths:  []string{"**/.fingerprint/*/*"},
		covers: isCargoUnit,
		bond:   cargoBond,
	},
	{
		ID: "sphinx-cache", since: 2, head: true,
		What:   "What Sphinx remembers of a run in environment.pickle is dropped.",
		Why:    "It holds the times of the run; without it, the next run reads all sources, as the first one did.",
		Never:  "A file that is no pickle of Sphinx's environment stays, and so do the documents.",
		Link:   "https://www.sphinx-doc.org/en/master/man/sphinx-build.html#cmdoption-sphinx-build-d",
		paths:  []string{"**/.doctrees/environment.pickle", "**/doctrees/environment.pickle"},
		covers: isSphinxCache,
	},
	{
		ID: "autoconf-cache", since: 2,
		What:   "The index of autoconf's cache is dropped.",
		Why:    "It is in the order of a hash with a random seed; without it the cache counts as empty, and is filled again.",
		Never:  "A file without autom4te's first line stays.",
		Link:   "https://www.gnu.org/software/autoconf/manual/autoconf-2.71/html_node/autom4te-Invocation.html",
		paths:  []string{"**/autom4te.cache/requests"},
		covers: begins("# This file was generated by Autom4te"),
	},
	{
		ID: "gem-temp-names", since: 2,
		What:    "The name of a temporary folder in the Makefile that a gem's extension was built with becomes a fixed one.",
		Why:     "The folder is gone, and gem pristine makes another Makefile.",
		Never:   "Nothing else in the Makefile is touched.",
		Link:    "https://guides.rubygems.org/gems-with-extensions/",
		paths:   []string{"**/gems/*/ext/**/Makefile"},
		rewrite: nameGemFolder,
	},
	{
		ID: "pnpm-times", since: 2,
		What:    "Times after the epoch at which pnpm has installed or checked something become the epoch.",
		Why:     "pnpm compares them with the times of files, which are clamped as well, and looks for what is not needed a week after.",
		Never:   "Nothing else in these files is touched.",
		Link:    "https://pnpm.io/settings",
		paths:   []string{"**/node_modules/.modules.yaml", "**/node_modules/.pnpm-workspace-state*.json", "**/pnpm/store/v*/files/*/*.json", "**/pnpm/store/v*/index/*/*.json", "~/.cache/pnpm/metadata*/**/*.json"},
		rewrite: built(clampPnpm),
	},
	{
		ID: "update-checks", since: 2,
		What:    "The time after the epoch at which a tool of Node.js last looked for a newer version of itself becomes the epoch.",
		Why:     "It decides when the tool looks again, a day or a week later.",
		Never:   "Nothing else in the tool's configuration is touched.",
		Link:    "https://github.com/sindresorhus/update-notifier",
		paths:   []string{"~/.config/configstore/*.json"},
		rewrite: built(clampUpdateCheck),
	},
	{
		ID: "gnupg-times", since: 2,
		What:    "Times after the epoch at which GnuPG made an empty keyring, or a trust database, become the epoch.",
		Why:     "They say when gpg first ran; it makes both files in every run that finds none.",
		Never:   "A keyring with keys stays, and so does whom the user trusts.",
		Link:    "https://www.gnupg.org/documentation/manuals/gnupg/GPG-Configuration.html",
		paths:   []string{"**/pubring.kbx", "**/trustdb.gpg"},
		covers:  isGnuPG,
		rewrite: built(clampGnuPG),
	},
	{
		ID: "crontab-date", since: 2,
		What:    "The date after the epoch in the comment that crontab puts above a table becomes the epoch.",
		Why:     "It says when the build ran crontab; cron reads no comment, and crontab -l leaves this one out.",
		Never:   "The table stays, and so does every other comment.",
		Link:    "https://manpages.debian.org/bookworm/cron/crontab.1.en.html",
		paths:   []string{"var/spool/cron/crontabs/*"},
		rewrite: built(clampCrontab),
	},
	{
		ID: "erlang-cookie", since: 2, value: true, log: true, asked: regexp.MustCompile(`\.erlang\.cookie`),
		What:   "The cookie that an Erlang node has made up for itself is dropped.",
		Why:    "Containers of one image must not share it; a node makes one if there is none.",
		Never:  "A cookie stays if the Dockerfile or an argument names it or its file, if it has another form, or if a RUN with a bind mount or a secret wrote it. So does one that replaces a lower layer's.",
		Link:   "https://www.erlang.org/doc/system/distributed.html#security",
		paths:  []string{"~/.erlang.cookie", "var/lib/rabbitmq/.erlang.cookie"},
		covers: isMadeUpCookie,
	},
}

// signing are the words with which a Dockerfile has something signed, or a checksum or a difference computed by which no file
// is known later.
var signing = regexp.MustCompile(`\bgpg2?\b[^\n;&|]*\s(?:-\w*[bs]|--(?:detach-sign|clear-?sign|sign))\b|\bopenssl\s+(?:dgst|cms|smime|pkeyutl|sha3|rmd160)\b|\bssh-keygen\b[^\n;&|]*-Y\s+sign` +
	`|\b(?:minisign|signify|signify-openbsd|cosign|jarsigner|apksigner|cksum|b3sum|xxh(?:32|64|128|)sum|rhash|crc32|cfv|sha3sum|par2|zsyncmake|xdelta3?|bsdiff|rdiff|mktorrent|transmission-create)\b`)

// languageCaches are the files of language-caches; isLanguageCache knows the forms of their content.
var languageCaches = []string{
	"~/.cache/pip/http/**", "~/.cache/pip/http-v2/**", "~/.cache/pip/selfcheck/**",
	"~/.cache/pypoetry/cache/repositories/*/_http/**",
	"~/.cache/uv/simple-v*/**", "~/.cache/uv/wheels-v*/**", "~/.cache/uv/sdists-v*/**", "~/.cache/uv/interpreter-v*/**",
	"~/.cargo/.global-cache",
	"~/.gem/specs/**", "~/.local/share/gem/specs/**", "~/.cache/gem/specs/**", "~/.bundle/cache/compact_index/**",
	"~/.cache/ccache/**", "~/.ccache/**",
	"~/.cache/matplotlib/fontlist-v*.json", "~/.cache/mesa_shader_cache/**", "~/.cache/gstreamer-1.0/**",
	"~/.gradle/daemon/**", "~/.cpan/Metadata",
	"~/.npm/_update-notifier-last-checked",
}

// tmpNames are the names that tools make up in temporary folders.
var tmpNames = regexp.MustCompile(`^(?:var/)?tmp/(?:` +
	`hsperfdata_[^/]+(?:/\d+)?$|jest_[0-9a-z]+(?:/(?:haste-map|jest-transform-cache|perf-cache)-[0-9a-f]{32}-.*)?$|npm-\d+-[0-9a-f]{8}|yarn--\d{13}-0\.\d+|go-build\d{9,10}|node-compile-cache|node-jiti|ccache-tmp` +
	`|v8-compile-cache-\d+|pip-(?:build-env|build-tracker|ephem-wheel-cache|install|metadata|modern-metadata|record|req-build|req-tracker|standalone-pip|uninstall|unpack|wheel)-` + madeUp("a-z", "0-9_", 8) +
	`|\.X\d+-lock|apt-key-gpghome\.` + madeUp("a-z", "A-Z0-9", 10) + `|(?:apt-dpkg-install-|apt\.(?:conf|data|sig)\.|fileutl\.message\.)` + madeUp("a-z", "A-Z0-9", 6) +
	`|systemd-private-[0-9a-f]{32}-.*|dnf-\w+-` + madeUp("a-z", "0-9_", 8) +
	`)(?:/|$)`)

// tmpFolders are the names of tmpNames that only folders have.
var tmpFolders = regexp.MustCompile(`^(?:var/)?tmp/(?:hsperfdata_|jest_|npm-|yarn--|go-build|node-|ccache-tmp|v8-|pip-|apt-key-|systemd-)[^/]*$`)

// tmpPrivate are the names of tmpNames that belong to tools which make private files, and whose random part may be a
// word with a number.
var tmpPrivate = regexp.MustCompile(`^(?:var/)?tmp/(?:pip-|dnf-|apt[-.]|fileutl\.)[^/]*`)

// madeUp returns an expression for n random characters of two classes, at least one of them from the second: a
// person's name for a file may be a word of that length.
func madeUp(letters, others string, n int) string {
	var ways []string
	for first := range n {
		ways = append(ways, fmt.Sprintf("[%s]{%d}[%s][%s%s]{%d}", letters, first, others, letters, others, n-1-first))
	}
	return "(?:" + strings.Join(ways, "|") + ")"
}

func begins(magic string) func([]byte, Facts) bool {
	return func(content []byte, _ Facts) bool { return bytes.HasPrefix(content, []byte(magic)) }
}

func matches(expr string) func([]byte, Facts) bool {
	re := regexp.MustCompile(expr)
	return func(content []byte, _ Facts) bool { return re.Match(content) }
}

func anyOf(checks ...func([]byte, Facts) bool) func([]byte, Facts) bool {
	return func(content []byte, f Facts) bool {
		for _, c := range checks {
			if c(content, f) {
				return true
			}
		}
		return false
	}
}
