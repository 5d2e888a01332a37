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

// clear ends the processes of build steps that have outlived their buildkitd, and unmounts what it had mounted for them.
// Its caller knows that no buildkitd has the data. What cannot be cleared stays: it disturbs nobody.
func (d rootDir) clear() {
	data, err := filepath.EvalSymlinks(d.data())
	if err != nil {
		return
	}
	var ours []mount
	for _, m := range mountPoints("/proc/self/mountinfo") {
		// Root file systems and cache mounts of steps; what else is mounted there is somebody's own.
		if rel, ok := strings.CutPrefix(m.point, data+"/"); ok && slices.ContainsFunc(strings.Split(rel, "/"), func(part string) bool {
			return part == "executor" || part == "cachemounts"
		}) {
			ours = append(ours, m)
		}
	}
	deadline := time.Now().Add(2 * time.Second)
	for killInside(ours) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // the kernel needs a moment
	}
	slices.Reverse(ours) // the innermost first
	for _, m := range ours {
		_ = unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
}

// killInside kills the processes whose root is one of mounts, and returns how many there were.
func killInside(mounts []mount) (n int) {
	procs, err := os.ReadDir("/proc")
	if err != nil || len(mounts) == 0 {
		return 0
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The handle first: what is read then is of the process that it pins.
		h, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		for _, m := range mountPoints(filepath.Join("/proc", p.Name(), "mountinfo")) {
			// Paths mean something else in another mount namespace; devices do not.
			if m.point == "/" && slices.ContainsFunc(mounts, func(o mount) bool { return o.device == m.device && o.root == m.root }) {
				if h.Kill() == nil {
					n++
				}
				break
			}
		}
		h.Release()
	}
	return n
}

// A mount is a line of a mountinfo file; see proc_pid_mountinfo(5).
type mount struct{ device, root, point string }

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
		mounts = append(mounts, mount{device: fields[2], root: unescape(fields[3]), point: unescape(fields[4])})
	}
	return mounts
}

// unescape resolves the \ooo that stand for white space.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
