// Command tool is the shell of the golden contexts: a static program that is
// mounted into RUN steps, so that nothing of it is in an image.
//
//	tool -c SCRIPT
//
// Each line of the script is a command and its words, separated by spaces; \n, \t
// and \s in a word are a line feed, a tab and a space. Relative times do not
// exist: the files of a step carry the time of the build unless touch sets one.
package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 || os.Args[1] != "-c" {
		fmt.Fprintln(os.Stderr, "usage: tool -c SCRIPT")
		os.Exit(2)
	}
	syscall.Umask(0)
	for i, line := range strings.Split(os.Args[2], "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		for j := range words {
			words[j] = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\s`, " ").Replace(words[j])
		}
		if err := do(words[0], words[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "line %d: %s: %v\n", i+1, line, err)
			os.Exit(1)
		}
	}
}

var commands = map[string]struct {
	least, most int
	run         func(args []string) error
}{
	"mkdir": {1, 2, func(args []string) error { // PATH [MODE]
		if err := os.MkdirAll(args[0], 0o755); err != nil || len(args) == 1 {
			return err
		}
		return chmod(args[0], args[1])
	}},
	"write": {1, 2, func(args []string) error { // PATH [CONTENT]
		content := ""
		if len(args) == 2 {
			content = args[1]
		}
		return write(args[0], []byte(content))
	}},
	"append": {2, 2, func(args []string) error { // PATH CONTENT
		f, err := os.OpenFile(args[0], os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(args[1])
		return err
	}},
	"base64": {2, 2, func(args []string) error { // PATH CONTENT
		content, err := base64.StdEncoding.DecodeString(args[1])
		if err != nil {
			return err
		}
		return write(args[0], content)
	}},
	"random": {2, 2, func(args []string) error { // PATH BYTES, which are the same each time
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		// Half of every 4 KiB can be compressed. The sequence of a seed never changes.
		content, source := make([]byte, n), rand.New(rand.NewSource(1))
		for i := range content {
			if i%4096 < 2048 {
				content[i] = byte(source.Int63())
			}
		}
		return write(args[0], content)
	}},
	"copy": {2, 2, func(args []string) error { // FROM TO
		content, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		return write(args[1], content)
	}},
	"hole": {2, 2, func(args []string) error { // PATH BYTES: a sparse file with one byte at its end
		n, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		f, err := os.Create(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("."), n-1)
		return err
	}},
	"rm":     {1, 1, func(args []string) error { return os.RemoveAll(args[0]) }},
	"mv":     {2, 2, func(args []string) error { return os.Rename(args[0], args[1]) }},
	"link":   {2, 2, func(args []string) error { return os.Link(args[0], args[1]) }},
	"symbol": {2, 2, func(args []string) error { return os.Symlink(args[0], args[1]) }},
	"chmod":  {2, 2, func(args []string) error { return chmod(args[0], args[1]) }},
	"chown": {3, 3, func(args []string) error { // PATH UID GID
		uid, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return os.Lchown(args[0], uid, gid)
	}},
	"touch": {1, 2, func(args []string) error { // PATH [SECONDS]
		when := time.Now()
		if len(args) == 2 {
			seconds, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return err
			}
			when = time.Unix(seconds, 0)
		}
		return os.Chtimes(args[0], when, when)
	}},
	"xattr": {3, 3, func(args []string) error { // PATH NAME BASE64
		value, err := base64.StdEncoding.DecodeString(args[2])
		if err != nil {
			return err
		}
		return syscall.Setxattr(args[0], args[1], value, 0)
	}},
	"fifo": {1, 1, func(args []string) error { return syscall.Mkfifo(args[0], 0o644) }},
	"device": {3, 3, func(args []string) error { // PATH MAJOR MINOR
		major, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		minor, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return syscall.Mknod(args[0], syscall.S_IFCHR|0o644, major<<8|minor)
	}},
	"expect": {2, 2, func(args []string) error { // PATH CONTENT
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		if content, err := io.ReadAll(f); err != nil || string(content) != args[1] {
			return fmt.Errorf("it is %q: %v", content, err)
		}
		return nil
	}},
}

func do(name string, args []string) error {
	c, ok := commands[name]
	if !ok || len(args) < c.least || len(args) > c.most {
		return fmt.Errorf("no such command, or %d words for it", len(args))
	}
	return c.run(args)
}

// write makes a file, and the folders that it is in.
func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

func chmod(path, mode string) error {
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil {
		return err
	}
	return syscall.Chmod(path, uint32(bits))
}
