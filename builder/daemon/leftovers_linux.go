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

// clear removes what a killed buildkitd left: processes of build steps, mounts and temporary files. The caller must know
// that no buildkitd uses the data. Anything that cannot be removed stays, and does no harm.
func (d rootDir) clear() {
	ours := d.mounts()
	deadline := time.Now().Add(2 * time.Second)
	for killInside(ours) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // the kernel needs a moment
	}
	slices.Reverse(ours) // the innermost first
	for _, m := range ours {
		_ = unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	// A remaining mount would have files of the cache in it.
	if temp := d.temp(); temp != "" && len(d.mounts()) == 0 {
		os.RemoveAll(temp)
	}
}

// mounts returns the mounts that a buildkitd of this root makes: root file systems and cache mounts of steps, and
// snapshots in its temporary folder. Any other mount below the root is the user's.
func (d rootDir) mounts() []mount {
	return append(mountsBelow(d.data(), func(rel string) bool {
		return slices.ContainsFunc(strings.Split(rel, "/"), func(part string) bool {
			return part == "executor" || part == "cachemounts"
		})
	}), mountsBelow(d.temp(), func(string) bool { return true })...)
}

// mountsBelow returns the mounts below dir that want accepts by their path in dir, outer ones first.
func mountsBelow(dir string, want func(rel string) bool) []mount {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil || !filepath.IsAbs(dir) || dir == "/" {
		return nil // never every mount of the machine
	}
	return slices.DeleteFunc(mountPoints("/proc/self/mountinfo"), func(m mount) bool {
		rel, ok := strings.CutPrefix(m.point, dir+"/")
		return !ok || !want(rel)
	})
}

// killInside kills the processes whose root is one of mounts, and returns their number.
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
		// Opened before mountinfo is read, the handle pins the process that mountinfo describes.
		h, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		for _, m := range mountPoints(filepath.Join("/proc", p.Name(), "mountinfo")) {
			// Paths differ between mount namespaces, devices do not.
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

// mount is a line of a mountinfo file; see proc_pid_mountinfo(5).
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

// unescape resolves the octal escapes of white space.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
