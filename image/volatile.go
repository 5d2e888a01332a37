package image

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// A rule is what is done about files that change from build to build, and that no program needs as
// they are: they are dropped, or a part of them is rewritten.
type rule struct {
	id    string // lower-case words with dashes; never reused for something else
	since int    // the RulesVersion that brought it
	what  string // what happens, one sentence
	why   string // why nothing is lost, one sentence
	link  string // where the format or the cause is described

	// paths are what the rule is about: as path.Match has it, in each part of a path; ~ is the home
	// directories. A pattern is also about all that is below what it matches, or only about that
	// where it ends in /**.
	paths []string

	// run limits the rule to layers that a RUN made, or a COPY from a stage that has one. What else COPY
	// and ADD bring is an input, which a checksum elsewhere may be of.
	run bool

	// is, where it is not nil, looks at the content, for which a name is not enough.
	is func(content []byte) bool

	// rewrite, where it is not nil, returns the content as it is to be. Without it the change to
	// the file is dropped. It must give the same for what it gave.
	rewrite func(content []byte, f facts) []byte
}

// facts are what a rewrite may need to know.
type facts struct {
	epoch int64 // seconds since 1970

	// neutral asks for what two versions have in common that differ by what the rewrite is about:
	// they are compared in this form.
	neutral bool

	// source is, for a compiled file, what it is to say that the time of its source is.
	source *uint32
}

// Rule says what a normalisation rule does, and why it may; empty strings where there is none of that id.
func Rule(id string) (what, why string) {
	if r := ruleOf(id); r != nil {
		return r.what, r.why
	}
	return "", ""
}

// ruleOf returns the rule of an id, nil where there is none.
func ruleOf(id string) *rule {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.id == id })
	if i < 0 {
		return nil
	}
	return &rules[i]
}

// byContent says that a rule has to read the file.
func (r *rule) byContent() bool { return r.is != nil || r.rewrite != nil }

// maxRewrite is the size in bytes up to which rules look into a file. It is held in memory.
const maxRewrite = 16 << 20

// Ids of the rules that are not about single files, or about several at once.
const (
	repeatsID  = "repeats"
	whiteoutID = "whiteout-of-nothing"
	bytecodeID = "python-bytecode"
)

var rules = []rule{
	{
		id: repeatsID, since: 1,
		what: "An entry is dropped where the layers below hold the same: type, content, mode, owner and extended attributes. So is a hard link to what they hold by its name. A folder stays where something comes into it or goes.",
		why:  "It changes nothing but a time, and which such entries a layer has depends on the snapshotter.",
		link: layerSpec,
	},
	{
		id: whiteoutID, since: 1,
		what: "A whiteout is dropped where the layers below have nothing for it to hide.",
		why:  "It hides what an earlier step of the build made and another rule has dropped.",
		link: layerSpec + "#whiteouts",
	},
	{
		id: "package-manager-logs", since: 1,
		what:  "Logs of package managers are dropped.",
		why:   "They say when packages were installed, and the next run begins a new one.",
		link:  "https://wiki.debian.org/ReproducibleInstalls",
		paths: []string{"var/log/apt/**", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log", "var/log/apk.log", "var/log/dnf*.log", "var/log/hawkey.log", "var/log/yum.log", "var/log/zypper.log", "var/log/zypp/**", "var/log/pacman.log"},
	},
	{
		id: "system-logs", since: 1,
		what:  "The times of last logins, the journal and logs of set-up tools are dropped.",
		why:   "Whoever writes them makes them where they are absent.",
		link:  "https://manpages.debian.org/bookworm/login/lastlog.8.en.html",
		paths: []string{"var/log/lastlog", "var/log/tallylog", "var/log/journal/**", "var/log/fontconfig.log"},
	},
	{
		id: "login-records", since: 1,
		what:    "Records of logins are emptied.",
		why:     "They are of the build. The file stays, since nothing is recorded where it is absent.",
		link:    "https://manpages.debian.org/bookworm/manpages/utmp.5.en.html",
		paths:   []string{"var/log/wtmp", "var/log/btmp", "var/log/faillog", "run/utmp"},
		rewrite: func([]byte, facts) []byte { return nil },
	},
	{
		id: "empty-mail-spool", since: 1,
		what:  "Mail boxes without mail are dropped.",
		why:   "useradd makes them, and the first mail does so as well.",
		link:  "https://manpages.debian.org/bookworm/passwd/useradd.8.en.html",
		paths: []string{"var/mail/*", "var/spool/mail/*"},
		is:    func(content []byte) bool { return len(content) == 0 },
	},
	{
		id: "ldconfig-aux-cache", since: 1,
		what:  "The auxiliary cache of ldconfig is dropped.",
		why:   "It holds inode numbers and times, to make the next ldconfig faster; programs use /etc/ld.so.cache.",
		link:  "https://manpages.debian.org/bookworm/libc-bin/ldconfig.8.en.html",
		paths: []string{"var/cache/ldconfig/aux-cache"},
	},
	{
		id: "package-manager-caches", since: 1,
		what:  "Binary caches of package lists are dropped.",
		why:   "apt, dnf and apk make them from the lists, or fetch them, when they need them.",
		link:  "https://manpages.debian.org/bookworm/apt/apt-cache.8.en.html",
		paths: []string{"var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin", "var/cache/dnf/**", "var/cache/yum/**", "var/cache/libdnf5/**", "var/cache/apk/**", "var/lib/dnf/repos", "var/lib/rpm/__db.*", "var/lib/rpm/.dbenv.lock", "usr/lib/sysimage/rpm/.rpm.lock"},
	},
	{
		id: "package-manager-backups", since: 1,
		what:  "Copies that dpkg, apt and debconf keep of the state before are dropped.",
		why:   "They are for an administrator who wants to go back, and programs use the state itself.",
		link:  "https://manpages.debian.org/bookworm/dpkg/dpkg.1.en.html",
		paths: []string{"var/lib/dpkg/*-old", "var/cache/debconf/*-old", "var/lib/apt/extended_states.*", "var/backups/**"},
	},
	{
		id: "password-backups", since: 1,
		what:  "Copies that useradd and its like keep of the password files are dropped.",
		why:   "They are the files of the step before, and nothing reads them.",
		link:  "https://manpages.debian.org/bookworm/passwd/vipw.8.en.html",
		paths: []string{"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"},
	},
	{
		id: "password-dates", since: 1,
		what:    "Dates of the last password change after the epoch become that of the epoch.",
		why:     "It is the day on which an account was made, where its maker did not hear SOURCE_DATE_EPOCH.",
		link:    "https://manpages.debian.org/bookworm/passwd/shadow.5.en.html",
		paths:   []string{"etc/shadow"},
		rewrite: clampShadow,
	},
	{
		id: "machine-id", since: 1,
		what:    "A machine id is emptied.",
		why:     "It must not be shared by what runs from one image; an empty one is made anew at the first boot.",
		link:    "https://manpages.debian.org/bookworm/systemd/machine-id.5.en.html",
		paths:   []string{"etc/machine-id"},
		is:      isMachineID,
		rewrite: func([]byte, facts) []byte { return nil },
	},
	{
		id: "dbus-machine-id", since: 1,
		what:  "The machine id of D-Bus is dropped.",
		why:   "It must not be shared by what runs from one image; dbus-uuidgen --ensure makes one where there is none.",
		link:  "https://manpages.debian.org/bookworm/dbus-bin/dbus-uuidgen.1.en.html",
		paths: []string{"var/lib/dbus/machine-id"},
		is:    isMachineID,
	},
	{
		id: "random-seeds", since: 1,
		what:  "Random seeds are dropped.",
		why:   "They must not be shared by what runs from one image, and are made anew at boot.",
		link:  "https://manpages.debian.org/bookworm/systemd/systemd-random-seed.service.8.en.html",
		paths: []string{"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/random-seed", "boot/loader/random-seed", "boot/efi/loader/random-seed"},
	},
	{
		id: "fontconfig-caches", since: 1,
		what:  "Font caches are dropped.",
		why:   "They hold times of folders; fontconfig scans the fonts where there is no cache.",
		link:  "https://manpages.debian.org/bookworm/fontconfig/fc-cache.1.en.html",
		paths: []string{"var/cache/fontconfig/**", "usr/lib/fontconfig/cache/**", "~/.cache/fontconfig", "~/.fontconfig"},
	},
	{
		id: "man-caches", since: 1,
		what:  "Indexes of manual pages are dropped.",
		why:   "They hold times; man finds pages without them; whatis and apropos need mandb, which a daily job runs.",
		link:  "https://manpages.debian.org/bookworm/man-db/mandb.8.en.html",
		paths: []string{"var/cache/man/**"},
	},
	{
		id: "language-caches", since: 1,
		what:  "Caches and logs that language package managers and compilers leave in home directories are dropped.",
		why:   "They hold times of downloads and builds, and are filled anew when they are needed; what was installed from them is elsewhere.",
		link:  "https://pip.pypa.io/en/stable/topics/caching/",
		paths: []string{"~/.cache/pip", "~/.cache/uv", "~/.cache/pypoetry/cache", "~/.cache/pypoetry/artifacts", "~/.npm/_cacache", "~/.npm/_logs", "~/.npm/_locks", "~/.npm/_update-notifier-last-checked", "~/.cache/pnpm", "~/.cache/yarn", "usr/local/share/.cache/yarn", "~/.cache/node-gyp", "~/.cache/node/corepack/lastKnownGood.json", "~/.cache/go-build", "~/.config/go/telemetry", "~/.cargo/.global-cache", "~/.cargo/.package-cache", "~/.cargo/.package-cache-mutate", "~/.gem/specs", "~/.local/share/gem/specs", "~/.cache/gem", "~/.bundle/cache/compact_index", "~/.cache/composer", "~/.composer/cache", "~/.cache/ccache", "~/.ccache", "~/.cache/sccache", "~/.cache/matplotlib", "~/.cache/mesa_shader_cache", "~/.cache/gstreamer-1.0", "~/.m2/repository/**/_remote.repositories", "~/.m2/repository/**/resolver-status.properties", "~/.gradle/daemon", "~/.cpan/Metadata", "~/.cpanm/work", "~/.cpanm/build.log", "~/.cpanm/latest-build"},
	},
	{
		id: "histories", since: 1,
		what:  "What interactive programs and wget remember is dropped.",
		why:   "It is of the build, and every program does without.",
		link:  "https://www.gnu.org/software/wget/manual/html_node/HTTPS-_0028SSL_002fTLS_0029-Options.html",
		paths: []string{"~/.bash_history", "~/.ash_history", "~/.sh_history", "~/.zsh_history", "~/.python_history", "~/.node_repl_history", "~/.irb_history", "~/.lesshst", "~/.viminfo", "~/.mysql_history", "~/.psql_history", "~/.sqlite_history", "~/.rediscli_history", "~/.wget-hsts"},
	},
	{
		id: "tmp-leftovers", since: 1,
		what:  "What known tools leave in /tmp and /var/tmp is dropped.",
		why:   "It belongs to a process that has ended.",
		link:  "https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch03s18.html",
		paths: []string{"tmp/hsperfdata_*", "tmp/npm-*", "tmp/v8-compile-cache-*", "tmp/node-compile-cache", "tmp/node-jiti", "tmp/yarn--*", "tmp/pip-*", "tmp/go-build*", "tmp/.X*-lock", "tmp/apt-key-gpghome.*", "tmp/apt-dpkg-install-*", "tmp/apt.conf.*", "tmp/apt.data.*", "tmp/apt.sig.*", "tmp/fileutl.message.*", "tmp/systemd-private-*", "var/tmp/systemd-private-*", "var/tmp/dnf-*", "tmp/ccache-tmp"},
	},
	{
		id: bytecodeID, since: 1,
		what:    "In compiled Python files the time of the source follows what becomes of the source's own time.",
		why:     "Python takes a compiled file for fresh only where it names the source's time.",
		link:    "https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation",
		paths:   []string{"**/*.pyc"},
		is:      isPyc,
		rewrite: rewritePyc,
	},
	{
		id: "apk-scripts", since: 1,
		what:    "Times after the epoch in apk's archive of package scripts become the epoch.",
		why:     "apk reads the scripts and their checksums in the names, and not the times.",
		link:    "https://wiki.alpinelinux.org/wiki/Apk_spec",
		paths:   []string{"lib/apk/db/scripts.tar", "usr/lib/apk/db/scripts.tar"},
		rewrite: clampTar,
	},
	{
		id: "gzip-header", since: 1, run: true,
		what:    "A time after the epoch in the header of a gzip file that a RUN made, also in another stage, becomes the epoch.",
		why:     "Only gunzip -N uses it, as the time of what it unpacks; the data behind it stay.",
		link:    "https://www.rfc-editor.org/rfc/rfc1952",
		paths:   []string{"**/*.gz", "**/*.tgz", "**/*.svgz"},
		is:      isGzip,
		rewrite: clampGzip,
	},
	{
		id: "zip-header", since: 1, run: true,
		what:    "Times after the epoch in the headers of zip archives that a RUN made, also in another stage, become the epoch.",
		why:     "They are the times of what is unpacked; the data stay, and so do signatures, which are over the data.",
		link:    "https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT",
		paths:   []string{"**/*.zip", "**/*.jar", "**/*.war", "**/*.whl", "**/*.egg"},
		is:      func(content []byte) bool { return bytes.HasPrefix(content, []byte("PK")) },
		rewrite: func(content []byte, f facts) []byte { return clampZip(content, f.epoch) },
	},
	{
		id: "git-index", since: 1, run: true,
		what:    "In the index of a git work tree that a RUN made, what git remembers of the files' inodes, owners, times and sizes is cleared.",
		why:     "It is of the build's file system, and true of no other; git compares a file's content where it does not fit. Hashes, modes, paths and marks stay.",
		link:    "https://git-scm.com/docs/index-format",
		paths:   []string{"**/.git/index", "**/.git/modules/**/index", "**/.git/worktrees/*/index"},
		is:      isGitIndex,
		rewrite: neutralIndex,
	},
	{
		id: "git-reflog", since: 1, run: true,
		what:    "Times after the epoch in the logs of git references that a RUN made become the epoch.",
		why:     "They say when the build moved a branch; the entries stay in their order.",
		link:    "https://git-scm.com/docs/git-reflog",
		paths:   []string{"**/.git/logs/**", "**/.git/modules/**/logs/**", "**/.git/worktrees/*/logs/**"},
		rewrite: clampReflog,
	},
	{
		id: "java-trust-store", since: 1, run: true,
		what:    "Dates after the epoch in Java's store of trusted certificates become the epoch, where it has nothing but certificates and the usual password.",
		why:     "They say when each entry was added, and only keytool shows them; the checksum at the end is made anew.",
		link:    "https://docs.oracle.com/en/java/javase/21/docs/specs/man/keytool.html",
		paths:   []string{"etc/ssl/certs/java/cacerts", "usr/lib/jvm/*/lib/security/cacerts"},
		is:      isTrustStore,
		rewrite: clampTrustStore,
	},
	{
		id: "configure-logs", since: 1, run: true,
		what:  "Logs of configure scripts are dropped.",
		why:   "They hold names of temporary files, for somebody to read where a test fails; the results are in config.status, which begins a new log.",
		link:  "https://www.gnu.org/software/autoconf/manual/autoconf-2.71/html_node/config_002estatus-Invocation.html",
		paths: []string{"**/config.log"},
		is:    isConfigureLog,
	},
	{
		id: "build-logs", since: 1, run: true,
		what:  "Logs of the tests that CMake makes, and of the building of gems' extensions, are dropped.",
		why:   "They hold names of temporary folders, for somebody to read where a build fails, and nothing else reads them.",
		link:  "https://cmake.org/cmake/help/latest/manual/cmake-configure-log.7.html",
		paths: []string{"**/CMakeFiles/CMakeOutput.log", "**/CMakeFiles/CMakeError.log", "**/CMakeFiles/CMakeConfigureLog.yaml", "**/extensions/*/*/*/gem_make.out", "**/extensions/*/*/*/mkmf.log"},
	},
	{
		id: "autoconf-cache", since: 1, run: true,
		what:  "The index of autoconf's cache is dropped.",
		why:   "It is in the order of a hash with a random seed; without it the cache counts as empty, and is filled anew.",
		link:  "https://www.gnu.org/software/autoconf/manual/autoconf-2.71/html_node/autom4te-Invocation.html",
		paths: []string{"**/autom4te.cache/requests"},
		is: func(content []byte) bool {
			return bytes.HasPrefix(content, []byte("# This file was generated by Autom4te"))
		},
	},
	{
		id: "gem-temp-names", since: 1, run: true,
		what:    "The name of a temporary folder in the Makefile that a gem's extension was built with becomes a fixed one.",
		why:     "The folder is gone, and gem pristine makes another Makefile.",
		link:    "https://guides.rubygems.org/gems-with-extensions/",
		paths:   []string{"**/gems/*/ext/**/Makefile"},
		rewrite: nameGemFolder,
	},
	{
		id: "pnpm-times", since: 1, run: true,
		what:    "Times after the epoch at which pnpm has installed or checked something become the epoch.",
		why:     "pnpm compares them with the times of files, which are clamped as well, and looks for what is not needed a week after.",
		link:    "https://pnpm.io/settings",
		paths:   []string{"**/node_modules/.modules.yaml", "**/node_modules/.pnpm-workspace-state*.json", "**/pnpm/store/v*/files/*/*.json", "**/pnpm/store/v*/index/*/*.json"},
		rewrite: clampPnpm,
	},
	{
		id: "crontab-date", since: 1, run: true,
		what:    "The date after the epoch in the comment that crontab puts above a table becomes the epoch.",
		why:     "It says when the build ran crontab; cron reads no comment, and crontab -l leaves this one out.",
		link:    "https://manpages.debian.org/bookworm/cron/crontab.1.en.html",
		paths:   []string{"var/spool/cron/crontabs/*"},
		rewrite: clampCrontab,
	},
	{
		id: "erlang-cookie", since: 1,
		what:  "The cookie that an Erlang node has made for itself is dropped.",
		why:   "It must not be shared by what runs from one image; a node makes one where there is none.",
		link:  "https://www.erlang.org/doc/system/distributed.html#security",
		paths: []string{"~/.erlang.cookie", "var/lib/rabbitmq/.erlang.cookie"},
		is:    isErlangCookie,
	},
}

// Rules choose among the normalisation rules of a version. The zero value is all of the newest.
type Rules struct {
	Version int      // 0 is RulesVersion
	Off     []string // ids
}

// A VersionError says that rules are asked for which a later kedge has.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("normalisation rules of version %d: this kedge knows them up to %d", e.Version, RulesVersion)
}

// ParseRules reads what says which rules are on: all, none, or a list, separated by commas, of -ID and
// +ID, of which the last word on a rule counts; all and none may begin the list.
func ParseRules(s string) (Rules, error) {
	off := map[string]bool{}
	for i, word := range strings.Split(s, ",") {
		switch {
		case word == "all" && i == 0:
		case word == "none" && i == 0:
			for _, r := range rules {
				off[r.id] = true
			}
		case len(word) > 1 && (word[0] == '-' || word[0] == '+'):
			if ruleOf(word[1:]) == nil {
				return Rules{}, fmt.Errorf("there is no normalisation rule %q", word[1:])
			}
			off[word[1:]] = word[0] == '-'
		default:
			return Rules{}, fmt.Errorf("%q is not all, none, -RULE or +RULE", word)
		}
	}
	var r Rules
	for _, rule := range rules { // in one order, whatever that of the words
		if off[rule.id] {
			r.Off = append(r.Off, rule.id)
		}
	}
	return r, nil
}

// Check returns r with its version named, or a *VersionError.
func (r Rules) Check() (Rules, error) {
	if r.Version == 0 {
		r.Version = RulesVersion
	}
	if r.Version < 0 || r.Version > RulesVersion {
		return Rules{}, &VersionError{r.Version}
	}
	return r, nil
}

func (r Rules) on(rule *rule) bool {
	return rule.since <= r.Version && !slices.Contains(r.Off, rule.id)
}

// A matcher finds the rule about a path.
type matcher struct {
	first map[string][]pattern // by the first part of a path
	later map[string][]pattern // by the part behind **, where that is the first
	any   []pattern            // where that part is a pattern itself
	keep  []pattern
}

// A pattern is a rule's path, in parts.
type pattern struct {
	rule  *rule
	parts []string
}

// matcher returns a matcher for the rules that are on, in a layer that a RUN made or in another. Paths
// that keep matches have none.
func (r Rules) matcher(keep []string, run bool) *matcher {
	m := &matcher{first: map[string][]pattern{}, later: map[string][]pattern{}}
	for i := range rules {
		if !r.on(&rules[i]) || rules[i].run && !run {
			continue
		}
		for _, glob := range rules[i].paths {
			for _, parts := range expand(glob) {
				p := pattern{&rules[i], parts}
				switch {
				case parts[0] != "**":
					m.first[parts[0]] = append(m.first[parts[0]], p)
				case strings.ContainsAny(parts[1], `*?[\`):
					m.any = append(m.any, p)
				default:
					m.later[parts[1]] = append(m.later[parts[1]], p)
				}
			}
		}
	}
	for _, glob := range keep {
		m.keep = append(m.keep, pattern{parts: strings.Split(clean(glob), "/")})
	}
	return m
}

// expand returns the parts of a glob, for each home directory.
func expand(glob string) [][]string {
	parts := strings.Split(glob, "/")
	if parts[0] != "~" {
		return [][]string{parts}
	}
	return [][]string{append([]string{"root"}, parts[1:]...), append([]string{"home", "*"}, parts[1:]...)}
}

// find returns the rule about a path, nil if there is none.
func (m *matcher) find(name string) *rule {
	parts := strings.Split(name, "/")
	r := about(m.first[parts[0]], parts)
	for i := 0; r == nil && i < len(parts); i++ {
		r = about(m.later[parts[i]], parts)
	}
	if r == nil {
		r = about(m.any, parts)
	}
	if r == nil || m.keeps(name) {
		return nil
	}
	return r
}

// about returns the rule of the first pattern that is about a path, nil if none is.
func about(patterns []pattern, name []string) *rule {
	for _, p := range patterns {
		if match(p.parts, name) {
			return p.rule
		}
	}
	return nil
}

// keeps reports whether a path is to be left alone.
func (m *matcher) keeps(name string) bool {
	return len(m.keep) > 0 && slices.ContainsFunc(m.keep, func(k pattern) bool { return match(k.parts, strings.Split(name, "/")) })
}

// match reports whether a pattern is about a path.
func match(pattern, name []string) bool {
	for i, p := range pattern {
		if p == "**" {
			rest := pattern[i+1:]
			if len(rest) == 0 {
				return len(name) > i
			}
			for j := i; j < len(name); j++ {
				if match(rest, name[j:]) {
					return true
				}
			}
			return false
		}
		if i >= len(name) {
			return false
		}
		if ok, err := path.Match(p, name[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// clean returns the name of an entry without slashes around it, "" for the root.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}
