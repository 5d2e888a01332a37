package packages

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// lines calls fn for every line without its end, until fn returns false or an error. It truncates lines longer
// than maxLine.
func lines(r io.Reader, fn func(line string) (more bool, err error)) error {
	br := bufio.NewReaderSize(r, 4<<10)
	var long []byte
	for {
		chunk, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, chunk[:min(len(chunk), maxLine-len(long))]...)
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(long) > 0 {
			chunk, long = append(long, chunk[:min(len(chunk), maxLine-len(long))]...), nil
		}
		if len(chunk) > 0 {
			more, ferr := fn(strings.TrimRight(string(chunk), "\r\n"))
			if ferr != nil || !more {
				return ferr
			}
		}
		if err != nil {
			return nil
		}
	}
}

// dpkg reads the installed packages of a status file (deb-control(5), dpkg-query(1)): paragraphs of fields. A
// package without a Status, as in status.d, is installed.
func dpkg(r io.Reader) ([]Package, error) {
	l := list{kind: "deb"}
	var name, version, status string
	end := func() error {
		installed := status == "" || strings.HasSuffix(status, " installed")
		n, v := name, version
		name, version, status = "", "", ""
		if !installed {
			return nil
		}
		return l.add(n, v)
	}
	err := lines(r, func(line string) (bool, error) {
		if line == "" {
			return true, end()
		}
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "Package":
			name = field(value)
		case "Version":
			version = field(value)
		case "Status":
			status = field(value)
		}
		return true, nil
	})
	err = errors.Join(err, end())
	return l.all, err
}

// apk reads the database of Alpine's apk (https://wiki.alpinelinux.org/wiki/Apk_spec).
func apk(r io.Reader) ([]Package, error) {
	l := list{kind: "apk"}
	var name, version string
	end := func() error {
		n, v := name, version
		name, version = "", ""
		return l.add(n, v)
	}
	err := lines(r, func(line string) (bool, error) {
		switch {
		case line == "":
			return true, end()
		case strings.HasPrefix(line, "P:"):
			name = field(line[2:])
		case strings.HasPrefix(line, "V:"):
			version = field(line[2:])
		}
		return true, nil
	})
	err = errors.Join(err, end())
	return l.all, err
}

// python reads the core metadata of a distribution
// (https://packaging.python.org/specifications/core-metadata/).
func python(r io.Reader) ([]Package, error) {
	l := list{kind: "pypi"}
	var name, version string
	err := lines(r, func(line string) (bool, error) {
		switch key, value, _ := strings.Cut(line, ":"); strings.ToLower(key) {
		case "name":
			name = field(value)
		case "version":
			version = field(value)
		}
		return line != "" && (name == "" || version == ""), nil
	})
	err = errors.Join(err, l.add(name, version))
	return l.all, err
}

// npm reads a package.json.
func npm(r io.Reader) ([]Package, error) {
	var p struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	data, err := io.ReadAll(io.LimitReader(r, maxDocument))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	l := list{kind: "npm"}
	err = l.add(p.Name, p.Version)
	return l.all, err
}

// gem reads a specification of RubyGems, which is Ruby code of a fixed form.
func gem(r io.Reader) ([]Package, error) {
	l := list{kind: "gem"}
	var name, version string
	err := lines(r, func(line string) (bool, error) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok {
			switch strings.TrimSpace(left) {
			case "s.name":
				name = rubyString(right)
			case "s.version":
				version = rubyString(right)
			}
		}
		return name == "" || version == "", nil
	})
	err = errors.Join(err, l.add(name, version))
	return l.all, err
}

// rubyString returns the first quoted string.
func rubyString(s string) string {
	i := strings.IndexAny(s, `"'`)
	if i < 0 {
		return ""
	}
	body, _, ok := strings.Cut(s[i+1:], s[i:i+1])
	if !ok {
		return ""
	}
	return field(body)
}
