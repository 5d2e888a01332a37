package filesum

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/kedge-build/kedge/internal/wholefile"
)

const (
	magic        = "kedge sums 2\n"
	blockRecords = 512
	blockSize    = blockRecords*len(record{}) + crc32.Size
	maxBlocks    = maxRecords / blockRecords
)

// A table finds records in a file. After the magic, the file has sorted records in blocks of blockRecords; the last
// block may have fewer. The CRC-32C of each block follows it. A lookup reads a few blocks: the file of a user with many
// contexts can have 20 MB, and a single build needs little of it. A block of a file that another process wrote meanwhile is as
// true as any other.
type table struct {
	path   string
	mu     sync.Mutex
	opened bool
	blocks [][]record // nil until it is read
}

// find returns the record of k.
func (t *table) find(k key) (record, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.opened {
		t.opened = true
		t.blocks = make([][]record, countBlocks(t.path))
	}
	i, ok := sort.Find(len(t.blocks), func(i int) int {
		b := t.block(i)
		switch {
		case len(b) > 0 && compare(k, b[0]) < 0:
			return -1
		case len(b) > 0 && compare(k, b[len(b)-1]) > 0:
			return 1
		}
		return 0
	})
	if !ok {
		return record{}, false
	}
	if j, ok := sort.Find(len(t.blocks[i]), func(j int) int { return compare(k, t.blocks[i][j]) }); ok {
		return t.blocks[i][j], true
	}
	return record{}, false
}

func compare(k key, r record) int { return bytes.Compare(k[:], r[:len(k)]) }

func (t *table) block(i int) []record {
	if t.blocks[i] == nil {
		t.blocks[i] = []record{} // without those of a damaged block
		if f, _, err := wholefile.Open(t.path); err == nil {
			t.blocks[i] = readBlock(f, i)
			f.Close()
		}
	}
	return t.blocks[i]
}

// countBlocks returns 0 if there is no such file.
func countBlocks(path string) int {
	f, size, err := wholefile.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != magic {
		return 0
	}
	return min(int((size-int64(len(magic))+int64(blockSize)-1)/int64(blockSize)), maxBlocks)
}

// readBlock returns the records of a block, or none if it is damaged.
func readBlock(f io.ReaderAt, i int) []record {
	data := make([]byte, blockSize)
	n, err := f.ReadAt(data, int64(len(magic)+i*blockSize))
	body := n - crc32.Size
	if err != nil && err != io.EOF || body < 0 || body%len(record{}) != 0 || checksum(data[:body]) != binary.BigEndian.Uint32(data[body:n]) {
		return []record{}
	}
	records := make([]record, 0, body/len(record{}))
	for chunk := range slices.Chunk(data[:body], len(record{})) {
		records = append(records, record(chunk))
	}
	return records
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// readTable returns the records in the file at path.
func readTable(path string) []record {
	t := table{path: path}
	t.blocks = make([][]record, countBlocks(path))
	var all []record
	for i := range t.blocks {
		all = append(all, t.block(i)...)
	}
	return all
}

// writeTable replaces the file at path. It sorts records.
func writeTable(path string, records []record) error {
	slices.SortFunc(records, func(a, b record) int { return bytes.Compare(a[:], b[:]) })
	data := append(make([]byte, 0, len(magic)+(len(records)/blockRecords+1)*blockSize), magic...)
	for block := range slices.Chunk(records, blockRecords) {
		start := len(data)
		for _, r := range block {
			data = append(data, r[:]...)
		}
		data = binary.BigEndian.AppendUint32(data, checksum(data[start:]))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// The sum of a short secret gives it away.
	return wholefile.WriteBytes(path, data, 0o600)
}
