package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// A record is the file of -out: a line with versions, and a line for each result. Without a file it drops
// the results.
type record struct{ file *os.File }

// openRecord opens the record at path. With resume it returns the existing results by context, and removes
// an incomplete last line.
func openRecord(path string, resume bool, with map[string]string) (map[string]result, *record, error) {
	if path == "" {
		return nil, &record{}, nil
	}
	mode := os.O_RDWR | os.O_CREATE
	if !resume {
		mode |= os.O_EXCL // hours of work
	}
	f, err := os.OpenFile(path, mode, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, nil, fmt.Errorf("%w; -resume continues it", err)
	}
	if err != nil {
		return nil, nil, err
	}
	done, end, err := readRecord(f, with)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err == nil && end == 0 {
		err = writeLine(f, with)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("reading %q: %w", path, err)
	}
	return done, &record{f}, nil
}

// readRecord returns the results of a record that has the given versions, and the offset after its last
// complete line.
func readRecord(r io.Reader, with map[string]string) (done map[string]result, end int64, err error) {
	done = map[string]result{}
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return done, end, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if n == 1 {
			var was map[string]string
			if err := json.Unmarshal(line, &was); err != nil {
				return nil, 0, fmt.Errorf("line 1: %w", err)
			}
			for program, version := range with {
				if was[program] != version {
					return nil, 0, fmt.Errorf("it was made with %q, and this is %q", was[program], version)
				}
			}
		} else {
			var res result
			if err := json.Unmarshal(line, &res); err != nil {
				return nil, 0, fmt.Errorf("line %d: %w", n, err)
			}
			if res.Context == "" {
				return nil, 0, fmt.Errorf("line %d: it names no context", n)
			}
			done[res.Context] = res
		}
		end += int64(len(line))
	}
}

func (r *record) append(res result) error {
	if r.file == nil {
		return nil
	}
	return writeLine(r.file, res)
}

func (r *record) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

func writeLine(w io.Writer, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
