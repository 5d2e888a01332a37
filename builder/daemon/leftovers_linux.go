package daemon

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clear ends the processes of build steps that have outlived their buildkitd, and unmounts what it had mounted below
// the data. Its caller knows that no buildkitd has the data. What cannot be cleared stays: it disturbs nobody.
func (d rootDir) clear() {
	data, err := filepath.EvalSymlinks(d.data())
	if err != nil {
		return
	}
	deadline := time.Now().Add(2 * time.Second)
	for killInside(data) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // the kernel needs a moment
	}
	mounts := mountPoints("/proc/self/mountinfo")
	slices.Reverse(mounts) // the innermost first
	for _, m := range mounts {
		if strings.HasPrefix(m.point, data+"/") {
			_ = unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
}

// killInside kills the processes whose root is below dir, and returns how many there were.
func killInside(dir string) (n int) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, m := range mountPoints(filepath.Join("/proc", p.Name(), "mountinfo")) {
			// An overlay names its folders in its options, a bind mount in its root.
			if m.point == "/" && (strings.HasPrefix(m.root, dir+"/") || strings.Contains(m.options, "="+dir+"/") || strings.Contains(m.options, ":"+dir+"/")) {
				if unix.Kill(pid, unix.SIGKILL) == nil {
					n++
				}
				break
			}
		}
	}
	return n
}

// A mount is a line of a mountinfo file; see proc_pid_mountinfo(5).
type mount struct{ root, point, options string }

func mountPoints(path string) []mount {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil // the process has ended
	}
	var mounts []mount
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 6 {
			continue
		}
		mounts = append(mounts, mount{root: unescape(fields[3]), point: unescape(fields[4]), options: unescape(fields[len(fields)-1])})
	}
	return mounts
}

// unescape resolves the \ooo that stand for white space.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
