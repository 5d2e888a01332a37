package rules

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	ninjaHead = regexp.MustCompile(`^# ninja log v[567]\n`)
	// ninjaLine is an entry of Ninja's log: when the command began and ended, the time that its inputs are
	// compared with, the output, and a hash of the command.
	ninjaLine = regexp.MustCompile(`^\d+\t\d+\t(\d+)\t([^\t]+)\t([0-9a-f]+)$`)
)

// A ninjaEntry is the last that a log says about an output.
type ninjaEntry struct {
	time int64 // in nanoseconds since 1970
	hash string
}

func ninjaEntries(content []byte) (head []byte, entries map[string]ninjaEntry, ok bool) {
	head = ninjaHead.Find(content)
	if head == nil {
		return nil, nil, false
	}
	entries = map[string]ninjaEntry{}
	for line := range bytes.Lines(content[len(head):]) {
		m := ninjaLine.FindSubmatch(bytes.TrimSuffix(line, []byte("\n")))
		if m == nil {
			return nil, nil, false
		}
		at := number(string(m[1]))
		if at < 0 {
			return nil, nil, false
		}
		entries[string(m[2])] = ninjaEntry{at, string(m[3])}
	}
	return head, entries, true
}

func isNinjaLog(content []byte, _ Facts) bool {
	_, _, ok := ninjaEntries(content)
	return ok
}

// evenNinjaLog keeps the last entry of each output, as Ninja does when it recompacts the log. No input is newer
// than the epoch, so none is newer than an entry with that time.
func evenNinjaLog(content []byte, f Facts) []byte {
	head, entries, ok := ninjaEntries(content)
	if !ok || !hasNanoseconds(f.Epoch) {
		return content
	}
	out := bytes.NewBuffer(bytes.Clone(head))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		fmt.Fprintf(out, "0\t1\t%d\t%s\t%s\n", min(e.time, f.Epoch*int64(time.Second)), name, e.hash)
	}
	return out.Bytes()
}

// hasNanoseconds reports whether an epoch in seconds has a positive count of nanoseconds.
func hasNanoseconds(epoch int64) bool { return epoch >= 0 && epoch <= math.MaxInt64/int64(time.Second) }

// ninjaDepsHead begins Ninja's database of what compilers read: the version is 4.
const ninjaDepsHead = "# ninjadeps\n\x04\x00\x00\x00"

// maxNinjaRecord is Ninja's own limit, in bytes.
const maxNinjaRecord = 1<<19 - 1

// ninjaDeps are what a compiler read for one output.
type ninjaDeps struct {
	time   uint64 // of the output, in nanoseconds since 1970
	inputs []string
}

// readNinjaDeps returns the last record of each output. A file that is cut off, or that breaks the format, is
// not ok.
func readNinjaDeps(content []byte) (deps map[string]ninjaDeps, ok bool) {
	rest, ok := bytes.CutPrefix(content, []byte(ninjaDepsHead))
	if !ok {
		return nil, false
	}
	deps = map[string]ninjaDeps{}
	le := binary.LittleEndian
	var paths []string
	for len(rest) > 0 {
		if len(rest) < 4 {
			return nil, false
		}
		size := le.Uint32(rest)
		isDeps := size>>31 != 0
		size &= 1<<31 - 1
		if rest = rest[4:]; size > maxNinjaRecord || size%4 != 0 || size < 8 || uint64(len(rest)) < uint64(size) {
			return nil, false
		}
		record := rest[:size]
		rest = rest[size:]
		if !isDeps {
			name, sum := record[:size-4], le.Uint32(record[size-4:])
			name = bytes.TrimRight(name, "\x00")
			if int(size)-4-len(name) > 3 || len(name) == 0 || bytes.IndexByte(name, 0) >= 0 || sum != ^uint32(len(paths)) {
				return nil, false
			}
			paths = append(paths, string(name))
			continue
		}
		if size < 12 {
			return nil, false
		}
		var names []string
		for at := 0; at < len(record); at += 4 {
			if at == 4 || at == 8 {
				continue // the time
			}
			id := le.Uint32(record[at:])
			if uint64(id) >= uint64(len(paths)) {
				return nil, false
			}
			names = append(names, paths[id])
		}
		deps[names[0]] = ninjaDeps{le.Uint64(record[4:]), names[1:]}
	}
	return deps, true
}

func isNinjaDeps(content []byte, _ Facts) bool {
	_, ok := readNinjaDeps(content)
	return ok
}

// evenNinjaDeps writes the records in the order of the outputs, and numbers the paths as they come up, as Ninja
// does when it recompacts the file. Ninja takes a record for old if the output is newer.
func evenNinjaDeps(content []byte, f Facts) []byte {
	deps, ok := readNinjaDeps(content)
	if !ok || !hasNanoseconds(f.Epoch) {
		return content
	}
	out := []byte(ninjaDepsHead)
	le := binary.LittleEndian
	ids := map[string]uint32{}
	for _, output := range slices.Sorted(maps.Keys(deps)) {
		d := deps[output]
		var record []byte
		for i, name := range append([]string{output}, d.inputs...) {
			id, known := ids[name]
			if !known {
				id = uint32(len(ids))
				ids[name] = id
				padded := name + strings.Repeat("\x00", -len(name)&3)
				out = le.AppendUint32(out, uint32(len(padded)+4))
				out = le.AppendUint32(append(out, padded...), ^id)
			}
			record = le.AppendUint32(record, id)
			if i == 0 {
				record = le.AppendUint64(record, min(d.time, uint64(f.Epoch)*uint64(time.Second)))
			}
		}
		out = append(le.AppendUint32(out, uint32(len(record))|1<<31), record...)
	}
	return out
}
