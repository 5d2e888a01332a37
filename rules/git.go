package rules

import (
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/internal/format/gitindex"
)

// neutralIndex returns a git index without what it remembers of files' stat data. What is no index, or one that
// is not understood as a whole, stays as it is.
func neutralIndex(content []byte, _ Facts) []byte {
	if neutral, ok := gitindex.Neutral(content); ok {
		return neutral
	}
	return content
}

func isGitIndex(content []byte) bool {
	_, ok := gitindex.Neutral(content)
	return ok
}

// clampReflog returns a log of a git reference in which no time is after the epoch. What is none stays as it is.
// See https://git-scm.com/docs/git-reflog and refs/files-backend.c, log_ref_write_fd.
func clampReflog(content []byte, f Facts) []byte {
	if f.Epoch < 0 {
		return content
	}
	lines := strings.SplitAfter(string(content), "\n")
	for i, line := range lines {
		start, end, ok := reflogTime(line)
		if !ok {
			if line == "" && i > 0 && i == len(lines)-1 {
				break
			}
			return content
		}
		if when, err := strconv.ParseInt(line[start:end], 10, 64); err != nil || when > f.Epoch && when <= f.latest() {
			lines[i] = line[:start] + strconv.FormatInt(f.Epoch, 10) + line[end:]
		}
	}
	return []byte(strings.Join(lines, ""))
}

// reflogTime returns where in a line of a reflog the time is, in seconds since 1970: old hash, new hash, name <address>,
// time, zone, and after a tab what happened.
func reflogTime(line string) (start, end int, ok bool) {
	head, whole := strings.CutSuffix(line, "\n")
	head, _, _ = strings.Cut(head, "\t")
	before, rest, _ := strings.Cut(head, " ")
	after, rest, _ := strings.Cut(rest, " ")
	address := strings.LastIndex(head, "> ")
	if address < 0 {
		return 0, 0, false
	}
	start = address + len("> ")
	when, zone, _ := strings.Cut(head[start:], " ")
	ok = whole && (len(before) == 40 || len(before) == 64) && len(before) == len(after) && only(before+after, "0123456789abcdef") &&
		strings.Contains(rest, " <") &&
		when != "" && len(when) <= 18 && only(when, "0123456789") &&
		len(zone) == 5 && (zone[0] == '+' || zone[0] == '-') && only(zone[1:], "0123456789")
	return start, start + len(when), ok
}

// only reports whether s has no other characters than those.
func only(s, characters string) bool { return strings.Trim(s, characters) == "" }
