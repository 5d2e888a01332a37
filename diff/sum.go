package diff

import (
	"encoding/binary"
	"hash/maphash"
)

// sum stands for a content, within this process: two contents of one size with equal sums are taken for
// the same. It is no digest, which takes several times as long: a blob has one, and it is checked.
type sum [16]byte

// seeds are chosen at random in each process, so that nobody can make two contents with one sum.
var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// A summer makes the sum of what is written to it.
type summer struct{ halves [2]maphash.Hash }

func newSummer() *summer {
	s := &summer{}
	for i := range s.halves {
		s.halves[i].SetSeed(seeds[i])
	}
	return s
}

// Write takes the next part of a content. It never fails.
func (s *summer) Write(p []byte) (int, error) {
	for i := range s.halves {
		_, _ = s.halves[i].Write(p)
	}
	return len(p), nil
}

// sum returns that of what was written, and makes s ready for another content.
func (s *summer) sum() (n sum) {
	for i := range s.halves {
		binary.LittleEndian.PutUint64(n[8*i:], s.halves[i].Sum64())
		s.halves[i].Reset()
	}
	return n
}
