package rules

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// A workTree is one of git, in a folder of its own.
type workTree struct {
	t   *testing.T
	dir string
}

// git runs it without this machine's configuration, and returns what it printed.
func (w workTree) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", w.dir}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_AUTHOR_NAME=kedge", "GIT_AUTHOR_EMAIL=kedge@example.com", "GIT_AUTHOR_DATE=2024-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=kedge", "GIT_COMMITTER_EMAIL=kedge@example.com", "GIT_COMMITTER_DATE=2024-01-02T03:04:05Z"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func (w workTree) write(name, content string, when time.Time) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chtimes(path, when, when); err != nil {
		w.t.Fatal(err)
	}
}

func (w workTree) index() []byte {
	w.t.Helper()
	content, err := os.ReadFile(filepath.Join(w.dir, ".git/index"))
	if err != nil {
		w.t.Fatal(err)
	}
	return content
}

func (w workTree) setIndex(content []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, ".git/index"), content, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// newWorkTree returns one whose files have a time, with what an index can hold.
func newWorkTree(t *testing.T, when time.Time, format string) workTree {
	w := workTree{t, t.TempDir()}
	w.git("init", "-q", "--object-format="+format, ".")
	for i := range 40 {
		w.write(fmt.Sprintf("dir%d/file%d", i%3, i), fmt.Sprintf("content %d\n", i), when)
	}
	w.write("empty", "", when)
	w.write("run.sh", "#!/bin/sh\n", when)
	if err := os.Chmod(filepath.Join(w.dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("run.sh", filepath.Join(w.dir, "link")); err != nil {
		t.Fatal(err)
	}
	w.git("add", "-A")
	w.git("commit", "-qm", "first")
	return w
}

// The index of a second work tree with the same files is the same, and true of any: git finds edits, and
// nothing else, whatever the times.
func TestGitIndex(t *testing.T) {
	testenv.Require(t, "git")
	tests := []struct {
		name, format string
		prepare      func(w workTree)
	}{
		{"version 2", "sha1", func(w workTree) { w.git("update-index", "--index-version", "2") }},
		{"version 3", "sha1", func(w workTree) {
			w.write("later", "later\n", late)
			w.git("add", "-N", "later")
			w.git("update-index", "--skip-worktree", "dir1/file1")
			w.git("update-index", "--assume-unchanged", "dir2/file2")
		}},
		{"version 4", "sha1", func(w workTree) { w.git("update-index", "--index-version", "4") }},
		{"sha256", "sha256", func(workTree) {}},
		{"sha256, version 4", "sha256", func(w workTree) { w.git("update-index", "--index-version", "4") }},
		{"index.skipHash", "sha1", func(w workTree) { w.setIndex(withoutHash(w.index(), 20)) }},
		{"index.skipHash, sha256", "sha256", func(w workTree) { w.setIndex(withoutHash(w.index(), 32)) }},
		{"untracked cache", "sha1", func(w workTree) {
			w.git("update-index", "--force-untracked-cache")
			w.git("status")
			w.has("UNTR")
		}},
		{"monitor", "sha1", func(w workTree) {
			w.write(".git/hooks/monitor", "#!/bin/sh\nprintf 'token\\0/\\0'\n", late)
			if err := os.Chmod(filepath.Join(w.dir, ".git/hooks/monitor"), 0o755); err != nil {
				w.t.Fatal(err)
			}
			w.git("config", "core.fsmonitor", filepath.Join(w.dir, ".git/hooks/monitor"))
			w.git("update-index", "--fsmonitor")
			w.has("FSMN")
		}},
		{"threads", "sha1", func(w workTree) {
			w.git("config", "index.threads", "true")
			w.git("update-index", "--index-version", "2", "--force-write-index")
			w.has("EOIE")
		}},
		{"resolved conflict", "sha1", func(w workTree) {
			for _, branch := range []string{"ours", "theirs"} {
				w.git("checkout", "-q", "-b", branch, "HEAD")
				w.write("run.sh", "#!/bin/sh\n"+branch+"\n", late)
				w.git("commit", "-qam", branch)
				w.git("checkout", "-q", "--detach", "HEAD~1")
			}
			w.git("checkout", "-q", "ours")
			w.git("read-tree", "-m", "HEAD~1", "ours", "theirs")
			w.git("add", "run.sh")
			w.has("REUC")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, again := newWorkTree(t, old, test.format), newWorkTree(t, late, test.format)
			test.prepare(w)
			test.prepare(again)
			raw := w.index()
			if bytes.Equal(raw, again.index()) {
				t.Error("they are the same as they are")
			}
			neutral := neutralIndex(raw, Facts{})
			if bytes.Equal(raw, neutral) || !bytes.Equal(neutral, neutralIndex(again.index(), Facts{})) {
				t.Fatal("they are not the same in neutral form")
			}
			if !isGitIndex(neutral) || !bytes.Equal(neutral, neutralIndex(neutral, Facts{})) {
				t.Error("the neutral form has another")
			}

			before := w.git("ls-files", "--stage", "-v")
			w.setIndex(neutral)
			if now := w.git("ls-files", "--stage", "-v"); now != before {
				t.Errorf("git has other entries:\n%s", now)
			}
			clean := w.git("status", "--porcelain")
			if strings.Contains(strings.ReplaceAll(clean, " A later\n", ""), "\n") {
				t.Errorf("status: %s", clean)
			}
			w.git("fsck", "--strict")

			// An edit that leaves the size, with times that an index without any may be taken to name.
			for _, edit := range []struct {
				when  time.Time
				trust []string
			}{{old, nil}, {time.Unix(0, 0), []string{"-c", "core.trustctime=false", "-c", "core.checkStat=minimal"}}} {
				w.write("dir0/file0", "CONTENT 0\n", edit.when)
				w.write("empty", "x", edit.when)
				w.write("other", "new\n", edit.when)
				w.setIndex(neutral)
				got := w.git(append(edit.trust, "status", "--porcelain")...)
				if want := " M dir0/file0\n M empty\n" + clean + "?? other\n"; sorted(got) != sorted(want) {
					t.Errorf("edited at %v: %s, want %s", edit.when, got, want)
				}
			}
			w.setIndex(neutral)
			if diff := w.git("diff"); !strings.Contains(diff, "+CONTENT 0") {
				t.Errorf("diff: %s", diff)
			}
			w.git("commit", "-qam", "second")
			if got := w.git("status", "--porcelain"); got != "?? other\n" {
				t.Errorf("after a commit: %s", got)
			}
			w.git("fsck", "--strict")
		})
	}

	t.Run("long paths", func(t *testing.T) {
		w := newWorkTree(t, old, "sha1")
		for _, n := range []int{4094, 4095, 4096, 20000} {
			w.git("update-index", "--add", "--cacheinfo", "100644,e69de29bb2d1d6434b8b29ae775ad8c2e48c5391,"+strings.Repeat("a", n))
		}
		for _, version := range []string{"2", "4"} {
			w.git("update-index", "--index-version", version)
			before := w.git("ls-files", "--stage")
			w.setIndex(neutralIndex(w.index(), Facts{}))
			if !isGitIndex(w.index()) || w.git("ls-files", "--stage") != before || strings.Contains(w.git("ls-files", "--debug"), "size: 1") {
				t.Errorf("version %s: git has other entries", version)
			}
		}
	})
	t.Run("near", func(t *testing.T) {
		w := newWorkTree(t, old, "sha1")
		whole := w.index()
		w.git("update-index", "--split-index")
		split := w.index()
		for name, content := range map[string][]byte{
			"split":             split,
			"no index":          []byte("DIRC is no index, and longer than the header and the hash of one"),
			"another version":   resummed(whole, func(b []byte) { b[7] = 5 }),
			"an entry too many": resummed(whole, func(b []byte) { b[11]++ }),
			"an entry too few":  resummed(whole, func(b []byte) { b[11]-- }),
			"another type":      resummed(whole, func(b []byte) { b[12+24+2] = 0x11 }),
			"damaged":           append(bytes.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1),
			"unknown extension": resummed(whole, func(b []byte) { copy(b[bytes.LastIndex(b, []byte("TREE")):], "ABCD") }),
		} {
			if isGitIndex(content) || !bytes.Equal(content, neutralIndex(content, Facts{})) {
				t.Errorf("%s: it is taken for an index that is understood", name)
			}
		}
		for n := range whole {
			if isGitIndex(whole[:n]) {
				t.Errorf("the first %d bytes are taken for an index", n)
			}
		}
	})
}

// has fails unless the index has an extension.
func (w workTree) has(signature string) {
	w.t.Helper()
	if !bytes.Contains(w.index(), []byte(signature)) {
		w.t.Fatalf("the index has no %s", signature)
	}
}

func sorted(lines string) string {
	all := strings.SplitAfter(lines, "\n")
	slices.Sort(all)
	return strings.Join(all, "")
}

// withoutHash returns an index as index.skipHash has it.
func withoutHash(index []byte, size int) []byte {
	index = bytes.Clone(index)
	clear(index[len(index)-size:])
	return index
}

// resummed returns a changed index of a sha1 repository, with its hash.
func resummed(index []byte, change func([]byte)) []byte {
	body := bytes.Clone(index[:len(index)-sha1.Size])
	change(body)
	sum := sha1.Sum(body)
	return append(body, sum[:]...)
}

func TestClampReflog(t *testing.T) {
	const hash, another = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"
	line := func(when, message string) string {
		return hash + " " + another + " root <root@buildkitsandbox.(none)> " + when + " +0000" + message + "\n"
	}
	for name, test := range map[string][2]string{
		"late":            {line("1800000000", "\tclone: from a"), line("1700000000", "\tclone: from a")},
		"early":           {line("1600000000", "\tcommit"), line("1600000000", "\tcommit")},
		"several":         {line("1600000000", "\ta") + line("1800000000", "") + line("1800000001", "\tc > 1800000000 +0000"), line("1600000000", "\ta") + line("1700000000", "") + line("1700000000", "\tc > 1800000000 +0000")},
		"sha256":          {strings.Repeat("a", 64) + " " + strings.Repeat("b", 64) + " a b <> 1800000000 -0130\tx\n", strings.Repeat("a", 64) + " " + strings.Repeat("b", 64) + " a b <> 1700000000 -0130\tx\n"},
		"empty":           {"", ""},
		"no log":          {line("1800000000", "") + "text\n", line("1800000000", "") + "text\n"},
		"no end":          {strings.TrimSuffix(line("1800000000", ""), "\n"), strings.TrimSuffix(line("1800000000", ""), "\n")},
		"an empty line":   {line("1800000000", "") + "\n", line("1800000000", "") + "\n"},
		"no zone":         {hash + " " + another + " a <b> 1800000000\n", hash + " " + another + " a <b> 1800000000\n"},
		"no address":      {hash + " " + another + " a 1800000000 +0000\n", hash + " " + another + " a 1800000000 +0000\n"},
		"half an address": {hash + " " + another + " a> 1800000000 +0000\n", hash + " " + another + " a> 1800000000 +0000\n"},
	} {
		if got := string(clampReflog([]byte(test[0]), Facts{Epoch: 1700000000})); got != test[1] {
			t.Errorf("%s: %q, want %q", name, got, test[1])
		}
	}
}

// indexes are small ones of each version, without a hash, so that a fuzzer gets past it.
func indexes() [][]byte {
	var all [][]byte
	for version := byte(2); version <= 4; version++ {
		for _, hash := range []int{20, 32} {
			b := []byte{'D', 'I', 'R', 'C', 0, 0, 0, version, 0, 0, 0, 1}
			e := bytes.Repeat([]byte{1}, 40+hash)
			copy(e[24:], []byte{0, 0, 0o100644 >> 8, 0o100644 & 0xff})
			e = append(e, 0, 1)
			if version == 4 {
				e = append(e, 0)
			}
			e = append(e, 'a', 0)
			for version < 4 && len(e)%8 > 0 {
				e = append(e, 0)
			}
			b = append(append(b, e...), "TREE\x00\x00\x00\x01xUNTR\x00\x00\x00\x00"...)
			all = append(all, append(b, make([]byte, hash)...))
		}
	}
	return all
}

func TestIndexes(t *testing.T) {
	for i, index := range indexes() {
		if !isGitIndex(index) {
			t.Errorf("index %d is not taken for one", i)
		}
	}
}
