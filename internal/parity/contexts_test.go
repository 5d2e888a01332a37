package parity

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// contextCases are cases for each form of a build context and a Dockerfile.
var contextCases = []Case{
	{
		Name: "folder", Form: "a folder",
		Files: with("FROM shell\nCOPY . /all\nRUN ls -R /all > /list\n", map[string]string{
			"a/b": "b\n", "a/run.sh": "#!/bin/sh\n", "a/link": "-> b", "a/dangling": "-> nowhere", "empty/": "",
			"a name": "spaces\n", "ümlaut": "ü\n", ".hidden": "hidden\n",
		}),
		Args: []string{"."},
	},
	{
		Name: "folder by a path", Form: "a folder",
		Files: map[string]string{"x/ctx/Dockerfile": "FROM tiny\nCOPY f /\n", "x/ctx/f": "f\n"},
		Args:  []string{"./x/../x/ctx/"},
	},
	{
		Name: "folder by a link", Form: "a folder",
		Files: map[string]string{"real/Dockerfile": "FROM tiny\nCOPY f /\n", "real/f": "f\n", "ctx": "-> real"},
		Args:  []string{"ctx"},
	},
	{
		Name: "file below the context", Form: "a folder",
		Files: map[string]string{"ctx/docker/Dockerfile": "FROM tiny\nCOPY . /all\n", "ctx/a": "a\n"},
		Args:  []string{"-f", "ctx/docker/Dockerfile", "ctx"},
	},
	{
		Name: "folder of git's", Form: "a folder", Files: with("FROM tiny\nCOPY a /\n", map[string]string{"a": "a\n"}),
		Each: func(t *testing.T, w *world, side, dir string, n int) {
			for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a"}} {
				cmd := exec.CommandContext(t.Context(), "git", args...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("git %q: %v\n%s", args, err, out)
				}
			}
			if err := os.Chmod(filepath.Join(dir, "a"), 0o600); err != nil {
				t.Error(err)
			}
		},
		Args: []string{"."}, Differs: []string{"modes"},
	},
	{
		Name: "folder with .git", Form: "a folder", Files: with("FROM tiny\nCOPY . /all\n", map[string]string{"a": "a\n"}),
		Each: func(t *testing.T, w *world, side, dir string, n int) {
			cmd := exec.CommandContext(t.Context(), "git", "init", "-q")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("git init: %v\n%s", err, out)
			}
		},
		Args: []string{"."}, Differs: []string{"context-git"},
	},
	{
		Name: "folder with a lockfile", Form: "a folder",
		Files: with("FROM scratch\nCOPY . /all\n", map[string]string{"Dockerfile.lock": "# What this Dockerfile builds from. Written by `kedge lock`; commit it, do not edit it.\nversion = 1\n"}),
		Args:  []string{"."}, Differs: []string{"lockfile in the context"},
	},
	{
		Name: "dockerignore", Form: "`.dockerignore`",
		Files: with("FROM tiny\nCOPY . /all\n", map[string]string{
			".dockerignore": "# a comment\n*.log\n**/tmp\n!keep.log\ndocs/*\n!docs/README.md\n",
			"a.log":         "a\n", "keep.log": "keep\n", "b/tmp/x": "x\n", "b/c": "c\n", "docs/a": "a\n", "docs/README.md": "readme\n",
		}),
		Args: []string{"."},
	},
	{
		Name: "dockerignore that hides the Dockerfile", Form: "`.dockerignore`",
		Files: with("FROM tiny\nCOPY . /all\n", map[string]string{".dockerignore": "Dockerfile\n.dockerignore\n", "a": "a\n"}),
		Args:  []string{"."},
	},
	{
		Name: "Dockerfile.dockerignore", Form: "`DOCKERFILE.dockerignore`",
		Files: map[string]string{
			"docker/app.Dockerfile": "FROM tiny\nCOPY . /all\n", "docker/app.Dockerfile.dockerignore": "b\ndocker\n",
			".dockerignore": "a\n", "a": "a\n", "b": "b\n",
		},
		Args: []string{"-f", "docker/app.Dockerfile", "."},
	},
	{
		Name: "lower-case dockerfile", Form: "a `dockerfile` in lower case",
		Files: map[string]string{"dockerfile": "FROM tiny\nLABEL case=lower\n"},
		Args:  []string{"."},
	},
	{
		Name: "Dockerfile that is a link", Form: "a folder",
		Files: map[string]string{"Dockerfile": "-> real.Dockerfile", "real.Dockerfile": "FROM tiny\nLABEL link=yes\n"},
		Args:  []string{"."},
	},
	{
		Name: "file outside of the context", Form: "`-f` outside of the context",
		Files: map[string]string{"docker/Dockerfile": "FROM tiny\nCOPY a /\n", "ctx/a": "a\n"},
		Args:  []string{"-f", "docker/Dockerfile", "ctx"},
	},
	{
		Name: "file by an absolute path", Form: "`-f` outside of the context",
		Files: map[string]string{"docker/Dockerfile": "FROM tiny\nCOPY a /\n", "ctx/a": "a\n"},
		Args:  []string{"--file=$DIR/docker/Dockerfile", "$DIR/ctx"},
	},
	{
		Name: "file from standard input", Form: "`-f -`",
		Files: map[string]string{"a": "a\n"}, Stdin: "FROM shell\nCOPY a /\nRUN cat a > b\n",
		Args: []string{"-f", "-", "."},
	},
	{
		Name: "tar on standard input", Form: "`-`: a tar archive, plain, gzip, bzip2 or xz", Stdin: "tar", Args: []string{"-"},
	},
	{
		Name: "gzip on standard input", Form: "`-`: a tar archive, plain, gzip, bzip2 or xz", Stdin: "gzip", Args: []string{"-"},
	},
	{
		Name: "bzip2 on standard input", Form: "`-`: a tar archive, plain, gzip, bzip2 or xz", Stdin: "bzip2", Args: []string{"-"},
	},
	{
		Name: "xz on standard input", Form: "`-`: a tar archive, plain, gzip, bzip2 or xz", Stdin: "xz", Args: []string{"-"},
	},
	{
		Name: "file in the tar on standard input", Form: "`-`: a tar archive, plain, gzip, bzip2 or xz",
		Stdin: "gzip", Args: []string{"-f", "other.docker", "-"},
	},
	{
		Name: "Dockerfile on standard input", Form: "`-`: a Dockerfile", Stdin: "FROM shell\nRUN ls / > /list\n", Args: []string{"-"},
	},
	{Name: "git", Form: "a git URL, `#REF:FOLDER`", Args: []string{"$GIT"}},
	{Name: "git branch", Form: "a git URL, `#REF:FOLDER`", Args: []string{"$GIT#next"}},
	{Name: "git tag", Form: "a git URL, `#REF:FOLDER`", Args: []string{"$GIT#v1"}},
	{Name: "git commit", Form: "a git URL, `#REF:FOLDER`", Args: []string{"$GIT#$COMMIT"}},
	{Name: "git folder", Form: "a git URL, `#REF:FOLDER`", Args: []string{"$GIT#main:sub"}},
	{Name: "git query", Form: "a git URL, `?ref=REF&subdir=FOLDER&checksum=COMMIT`", Args: []string{"$GIT?ref=main&subdir=sub"}},
	{Name: "git checksum", Form: "a git URL, `?ref=REF&subdir=FOLDER&checksum=COMMIT`", Args: []string{"$GIT?ref=v1&checksum=$COMMIT"}},
	{
		Name: "file in the git context", Form: "`-f` with a remote context", Args: []string{"-f", "other.docker", "$GIT#v1"},
	},
	{
		Name: "file beside a git context", Form: "`-f` with a remote context",
		Files: map[string]string{"local.Dockerfile": "FROM tiny\nCOPY sub /from-git\n"},
		Args:  []string{"-f", "$DIR/local.Dockerfile", "$GIT#v1"},
	},
	{
		Name: "file from standard input for a git context", Form: "`-f` with a remote context",
		Stdin: "FROM tiny\nCOPY sub /from-git\n", Args: []string{"-f", "-", "$GIT#v1"},
	},
	{Name: "http tar", Form: "a http(s) URL of a tar archive", Args: []string{"$FILES/context.tar"}},
	{Name: "http tar.gz", Form: "a http(s) URL of a tar archive", Args: []string{"-f", "sub/Dockerfile", "$FILES/context.tar.gz"}},
	{Name: "http Dockerfile", Form: "a http(s) URL of a Dockerfile", Args: []string{"$FILES/Dockerfile"}},
	{
		Name: "file by a URL", Form: "`-f` with a http(s) URL",
		Files: map[string]string{"a": "a\n"}, Args: []string{"-f", "$FILES/Dockerfile", "."},
	},
	{
		Name: "named context: a folder", Form: "named contexts: a folder",
		Files: with("FROM tiny\nCOPY --from=more a /more\n", map[string]string{"other/a": "a\n"}),
		Args:  []string{"--build-context", "more=other", "."},
	},
	{
		Name: "named context: an image", Form: "named contexts: `docker-image://`",
		Files: one("FROM base\nCOPY --from=more /etc/tiny /more\nCOPY --from=tiny /usr/bin/cat /cat\n"),
		Args: []string{
			"--build-context=base=docker-image://tiny", "--build-context=more=docker-image://docker.io/library/tiny:latest",
			"--build-context=tiny=docker-image://shell", ".",
		},
	},
	{
		Name: "named context: git", Form: "named contexts: a git or http(s) URL",
		Files: one("FROM tiny\nCOPY --from=src hello /hello\n"), Args: []string{"--build-context", "src=$GIT#next", "."},
	},
	{
		Name: "named context: http", Form: "named contexts: a git or http(s) URL",
		Files: one("FROM tiny\nCOPY --from=src . /src/\n"), Args: []string{"--build-context", "src=$FILES/context.tar.gz", "."},
	},
	{
		Name: "named context: OCI layout", Form: "named contexts: `oci-layout://`",
		Files: one("FROM base\nLABEL from=layout\n"),
		// The programs make them.
		Before: [][]string{{"--provenance=false", "-o", "type=oci,dest=layout,tar=false", "-t", "base:v1", "$GIT#v1"}},
		Args:   []string{"--build-context", "base=oci-layout://layout:v1", "."},
	},
	{
		Name: "named context: a stage", Form: "named contexts: instead of a stage",
		Files: with("FROM shell AS gen\nRUN echo from the stage > /f\nFROM tiny\nCOPY --from=gen /f /f\n", map[string]string{"gen/f": "from the context\n"}),
		Args:  []string{"--build-context", "gen=gen", "."},
	},
}
