package image

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"sync"

	"golang.org/x/crypto/blake2b"
)

// A digestKind is the digests of one length by which others may know a file.
type digestKind struct {
	length int // in bytes
	plain  []func() hash.Hash
	git    func() hash.Hash // of git's name for the file; may be nil
}

var digestKinds = [...]digestKind{
	{md5.Size, []func() hash.Hash{md5.New}, nil},
	{sha1.Size, []func() hash.Hash{sha1.New}, sha1.New},
	{sha256.Size224, []func() hash.Hash{sha256.New224}, nil},
	{sha256.Size, []func() hash.Hash{sha256.New, unkeyed(blake2b.New256)}, sha256.New},
	{sha512.Size384, []func() hash.Hash{sha512.New384}, nil},
	{sha512.Size, []func() hash.Hash{sha512.New, unkeyed(blake2b.New512)}, nil},
}

func unkeyed(fn func([]byte) (hash.Hash, error)) func() hash.Hash {
	return func() hash.Hash {
		h, err := fn(nil)
		if err != nil {
			panic(err) // only a key can be wrong
		}
		return h
	}
}

// A kindSet has a bit for each of digestKinds.
type kindSet uint8

// kindOf returns the kind of digests of a length in bytes, or 0 if none has it.
func kindOf(length int) kindSet {
	if i := slices.IndexFunc(digestKinds[:], func(k digestKind) bool { return k.length == length }); i >= 0 {
		return 1 << i
	}
	return 0
}

// fileSums computes the digests of a file that is written to it.
type fileSums struct {
	kinds  kindSet
	hashes []hash.Hash
}

// newFileSums computes digests of some kinds of a file with a size in bytes: each takes a second or more for a gigabyte.
func newFileSums(set kindSet, size int64) *fileSums {
	s := &fileSums{kinds: set}
	for i, k := range digestKinds {
		if set&(1<<i) == 0 {
			continue
		}
		for _, fn := range k.plain {
			s.hashes = append(s.hashes, fn())
		}
		if k.git != nil {
			h := k.git()
			fmt.Fprintf(h, "blob %d\x00", size)
			s.hashes = append(s.hashes, h)
		}
	}
	return s
}

// alone is the size in bytes of what one CPU hashes sooner than several do.
const alone = 8 << 10

func (s *fileSums) Write(p []byte) (int, error) {
	var wg sync.WaitGroup
	for _, h := range s.hashes {
		if len(p) < alone {
			_, _ = h.Write(p)
			continue
		}
		wg.Go(func() { _, _ = h.Write(p) })
	}
	wg.Wait()
	return len(p), nil
}

// key returns which kinds of digests were computed, and the first eight bytes of each.
func (s *fileSums) key() string {
	key := []byte{byte(s.kinds)}
	for _, h := range s.hashes {
		key = append(key, h.Sum(nil)[:8]...)
	}
	return hex.EncodeToString(key)
}

// readKey reads what key wrote.
func readKey(key string) (set kindSet, sums []byte, ok bool) {
	b, err := hex.DecodeString(key)
	if err != nil || len(b) == 0 {
		return 0, nil, false
	}
	return kindSet(b[0]), b[1:], true
}
