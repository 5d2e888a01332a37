package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	tailLines = 8
	tailBytes = 64 << 10
)

// quiet matches log lines, in text or JSON, of level info and below.
var quiet = regexp.MustCompile(`\blevel=(info|debug|trace)\b|"level":"(info|debug|trace)"`)

// openLog opens a new log for writing, and keeps the previous one.
func openLog(path string) (*os.File, error) {
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
}

// logTail returns the last lines of a log that may explain why the daemon failed, or nil if there is no log.
func logTail(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > tailBytes {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return nil
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return nil
	}
	return relevant(string(data))
}

// relevant returns the last lines of a log without progress and stack traces. A stack frame is a line with a function
// and a line with its file, after a tab.
func relevant(log string) []string {
	lines := strings.Split(log, "\n")
	var keep []string
	for i, l := range lines {
		frame := strings.HasPrefix(l, "\t") || i+1 < len(lines) && strings.HasPrefix(lines[i+1], "\t")
		if l = strings.TrimSpace(l); l == "" || frame || quiet.MatchString(l) {
			continue
		}
		keep = append(keep, l)
	}
	return keep[max(0, len(keep)-tailLines):]
}

// full returns an error that unwraps to ENOSPC if the file system of dir is full. The log cannot tell: on a full file
// system it is empty.
func full(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil
	}
	free := st.Bavail
	if os.Geteuid() == 0 {
		free = st.Bfree // includes root's reserve
	}
	// Files is zero on file systems that do not count inodes.
	if free*uint64(st.Bsize) < 1<<20 || st.Files > 0 && st.Ffree == 0 {
		return fmt.Errorf("the file system of %q is full: %w", dir, unix.ENOSPC)
	}
	return nil
}
