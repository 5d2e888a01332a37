package gitindex

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git's
	"crypto/sha256"
	"testing"
)

// build returns an index of a version with two files whose paths begin alike.
func build(version byte, hash int, change func([]byte)) []byte {
	b := []byte{'D', 'I', 'R', 'C', 0, 0, 0, version, 0, 0, 0, 2}
	for i, path := range []string{"dir/a", "dir/ab"} {
		e := bytes.Repeat([]byte{byte(i + 1)}, statSize+hash)
		copy(e[modeAt:], []byte{0, 0, 0o100644 >> 8, 0o100644 & 0xff})
		e = append(e, 0, byte(len(path)))
		if version == 3 {
			e[len(e)-2] |= extended >> 8
			e = append(e, skipWorktree>>8, 0)
		}
		if version == 4 {
			if i == 0 {
				e = append(append(e, 0), path...)
			} else {
				e = append(e, 0, 'b')
			}
			e = append(e, 0)
		} else {
			e = append(append(e, path...), 0)
			for len(e)%8 > 0 {
				e = append(e, 0)
			}
		}
		b = append(b, e...)
	}
	if version == 2 {
		b = append(b, "TREE\x00\x00\x00\x01xUNTR\x00\x00\x00\x00"...)
	}
	if change != nil {
		change(b)
	}
	if hash == sha1.Size {
		sum := sha1.Sum(b) //nolint:gosec // git's
		return append(b, sum[:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func TestPlain(t *testing.T) {
	for _, hash := range []int{sha1.Size, sha256.Size} {
		two, ok := Plain(build(2, hash, nil))
		if !ok || two[7] != 2 || bytes.Contains(two, []byte("TREE")) {
			t.Fatalf("version 2: %q, %v", two, ok)
		}
		if four, ok := Plain(build(4, hash, nil)); !ok || !bytes.Equal(two, four) {
			t.Errorf("version 4: %q, %v, want %q", four, ok, two)
		}
		three, ok := Plain(build(3, hash, nil))
		if !ok || three[7] != 3 {
			t.Errorf("version 3: %q, %v", three, ok)
		}
		for _, plain := range [][]byte{two, three} {
			if again, ok := Plain(plain); !ok || !bytes.Equal(plain, again) {
				t.Errorf("%q: the form has another: %q", plain, again)
			}
		}
	}
	folder := build(2, sha1.Size, func(b []byte) { copy(b[headerSize+modeAt:], []byte{0, 0, 0o40000 >> 8, 0}) })
	if _, ok := Plain(folder); ok {
		t.Error("a sparse index has a form without folders")
	}
	if _, ok := Neutral(folder); !ok {
		t.Error("a sparse index is not understood")
	}
	whole := build(4, sha1.Size, nil)
	for n := range whole {
		if _, ok := Plain(whole[:n]); ok {
			t.Errorf("the first %d bytes are taken for an index", n)
		}
	}
}

func FuzzPlain(f *testing.F) {
	for version := byte(2); version <= 4; version++ {
		index := build(version, sha1.Size, nil)
		f.Add(index[:len(index)-sha1.Size])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		content := append(bytes.Clone(body), make([]byte, sha1.Size)...) // as index.skipHash leaves it
		plain, ok := Plain(content)
		if !ok {
			return
		}
		if again, ok := Plain(plain); !ok || !bytes.Equal(plain, again) {
			t.Fatal("the form has another")
		}
	})
}
