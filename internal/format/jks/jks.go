// Package jks reads Java's keystores, JKS and JCEKS, and rewrites the dates in a JKS.
//
// The format is that of sun.security.provider.JavaKeyStore in OpenJDK; all numbers are big-endian.
package jks

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
)

const (
	magicJKS   = 0xfeedfeed
	magicJCEKS = 0xcececece
)

// The tags of entries.
const (
	PrivateKey  = 1
	Certificate = 2
)

// DefaultPassword seals the store of trusted certificates that Java comes with.
const DefaultPassword = "changeit"

// errMalformed is for a keystore that cannot be read to its end.
var errMalformed = errors.New("malformed Java keystore")

// A Store is a keystore.
type Store struct {
	Entries []Entry
	content []byte
}

// An Entry is a key or a trusted certificate.
type Entry struct {
	Tag   uint32 // PrivateKey, Certificate, or 3 for a secret key of a JCEKS
	Alias string
	Time  time.Time // when it was added, in milliseconds
	at    int       // the offset of Time
}

// Has reports whether content begins like a keystore.
func Has(content []byte) bool {
	if len(content) < 4 {
		return false
	}
	magic := binary.BigEndian.Uint32(content)
	return magic == magicJKS || magic == magicJCEKS
}

// Parse reads a keystore, whose seal is not checked. With an error it returns the entries before the fault,
// or before the first entry that is read by Java alone (secret keys are serialised objects).
func Parse(content []byte) (Store, error) {
	s := Store{content: content}
	in := cryptobyte.String(content)
	var magic, version, count uint32
	if !in.ReadUint32(&magic) || magic != magicJKS && magic != magicJCEKS ||
		!in.ReadUint32(&version) || version != 1 && version != 2 || !in.ReadUint32(&count) || len(in) < sha1.Size {
		return s, errMalformed
	}
	in = in[:len(in)-sha1.Size]
	for ; count > 0; count-- {
		var e Entry
		var alias cryptobyte.String
		var millis uint64
		if !in.ReadUint32(&e.Tag) || !in.ReadUint16LengthPrefixed(&alias) {
			return s, errMalformed
		}
		e.Alias, e.at = string(alias), len(content)-sha1.Size-len(in)
		if !in.ReadUint64(&millis) {
			return s, errMalformed
		}
		e.Time = time.UnixMilli(int64(millis))
		s.Entries = append(s.Entries, e)
		chain := uint32(1)
		if e.Tag == PrivateKey && (!skip(&in) || !in.ReadUint32(&chain)) || e.Tag != PrivateKey && e.Tag != Certificate {
			return s, errMalformed
		}
		for ; chain > 0; chain-- {
			var kind cryptobyte.String
			if version == 2 && !in.ReadUint16LengthPrefixed(&kind) || !skip(&in) {
				return s, errMalformed
			}
		}
	}
	if len(in) > 0 {
		return s, errMalformed
	}
	return s, nil
}

// skip skips bytes whose length, 32 bits, stands before them.
func skip(in *cryptobyte.String) bool {
	var n uint32
	return in.ReadUint32(&n) && int64(n) <= int64(len(*in)) && in.Skip(int(n))
}

// Sealed reports whether the keystore is a JKS that password seals.
func (s Store) Sealed(password string) bool {
	end := len(s.content) - sha1.Size
	return end >= 4 && binary.BigEndian.Uint32(s.content) == magicJKS && bytes.Equal(s.content[end:], seal(s.content[:end], password))
}

// Clamp returns the bytes of the keystore with no entry's time after latest, sealed with password. It returns
// the bytes that were parsed if there is nothing to change. The keystore must have been sealed with password.
func (s Store) Clamp(latest time.Time, password string) []byte {
	content := s.content
	for _, e := range s.Entries {
		if !e.Time.After(latest) {
			continue
		}
		if &content[0] == &s.content[0] {
			content = bytes.Clone(content)
		}
		binary.BigEndian.PutUint64(content[e.at:], uint64(latest.UnixMilli()))
	}
	if len(content) > 0 && &content[0] != &s.content[0] {
		end := len(content) - sha1.Size
		copy(content[end:], seal(content[:end], password))
	}
	return content
}

// seal returns the hash that ends a keystore.
func seal(content []byte, password string) []byte {
	h := sha1.New()
	for _, c := range utf16.Encode([]rune(password)) {
		h.Write([]byte{byte(c >> 8), byte(c)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(content)
	return h.Sum(nil)
}
