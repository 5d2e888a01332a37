package diff

import (
	"encoding/binary"
	"hash/maphash"
)

// sum stands for a content within this process: two contents of the same size with equal sums count as
// equal. It is not a digest, because digests take several times as long to compute. Blobs have digests,
// which are checked.
type sum [16]byte

// seeds are random in each process, so that no one can construct two contents with the same sum.
var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// A summer computes the sum of the bytes written to it.
type summer struct{ halves [2]maphash.Hash }

func newSummer() *summer {
	s := &summer{}
	for i := range s.halves {
		s.halves[i].SetSeed(seeds[i])
	}
	return s
}

// Write adds bytes to the content. It never fails.
func (s *summer) Write(p []byte) (int, error) {
	for i := range s.halves {
		_, _ = s.halves[i].Write(p)
	}
	return len(p), nil
}

// sum returns the sum of the content and starts a new one.
func (s *summer) sum() (n sum) {
	for i := range s.halves {
		binary.LittleEndian.PutUint64(n[8*i:], s.halves[i].Sum64())
		s.halves[i].Reset()
	}
	return n
}
