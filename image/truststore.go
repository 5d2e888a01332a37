package image

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"unicode/utf16"
)

// A keystore of Java's own form (JKS), as sun.security.provider.JavaKeyStore writes it, in big-endian.
const (
	jksMagic       = 0xfeedfeed
	jksVersion     = 2
	jksCertificate = 2 // the tag of an entry that is a certificate; 1 is a private key
)

// jksPassword is what Java has its store of trusted certificates sealed with, and what programs try.
const jksPassword = "changeit"

// jksDates returns the offsets of the entries' dates, 64 bits in milliseconds since 1970, in a keystore
// that has only certificates, is sealed with the usual password, and is whole.
func jksDates(content []byte) (offsets []int, ok bool) {
	be := binary.BigEndian
	end := len(content) - sha1.Size
	if end < 12 || be.Uint32(content) != jksMagic || be.Uint32(content[4:]) != jksVersion ||
		!bytes.Equal(content[end:], jksSeal(content[:end])) {
		return nil, false
	}
	rest := content[12:end]
	take := func(n int) []byte {
		if !ok || n < 0 || n > len(rest) {
			ok = false
			return make([]byte, 8)
		}
		taken := rest[:n]
		rest = rest[n:]
		return taken
	}
	ok = true
	for n := be.Uint32(content[8:]); n > 0 && ok; n-- {
		if be.Uint32(take(4)) != jksCertificate {
			return nil, false
		}
		take(int(be.Uint16(take(2)))) // its alias
		offsets = append(offsets, end-len(rest))
		take(8)
		take(int(be.Uint16(take(2)))) // X.509
		take(int(be.Uint32(take(4))))
	}
	return offsets, ok && len(rest) == 0
}

// jksSeal returns the hash that ends a keystore.
func jksSeal(content []byte) []byte {
	h := sha1.New()
	for _, c := range utf16.Encode([]rune(jksPassword)) {
		h.Write([]byte{byte(c >> 8), byte(c)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(content)
	return h.Sum(nil)
}

func isTrustStore(content []byte) bool {
	_, ok := jksDates(content)
	return ok
}

// clampTrustStore rewrites the dates of the entries, and the hash over them.
func clampTrustStore(content []byte, f facts) []byte {
	offsets, ok := jksDates(content)
	latest := uint64(max(f.epoch, 0)) * 1000
	changed := false
	for _, at := range offsets {
		if !ok || binary.BigEndian.Uint64(content[at:]) <= latest {
			continue
		}
		if !changed {
			content, changed = bytes.Clone(content), true
		}
		binary.BigEndian.PutUint64(content[at:], latest)
	}
	if changed {
		end := len(content) - sha1.Size
		copy(content[end:], jksSeal(content[:end]))
	}
	return content
}
