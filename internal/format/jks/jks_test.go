package jks

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

var (
	early = time.Date(1969, 7, 20, 20, 17, 0, 0, time.UTC)
	epoch = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	late  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// keystore returns a keystore of one entry for each time, with aliases "a", "b" and so on.
func keystore(magic, version, tag uint32, password string, times ...time.Time) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(be.AppendUint32(be.AppendUint32(nil, magic), version), uint32(len(times)))
	for i, when := range times {
		b = append(be.AppendUint32(b, tag), 0, 1, 'a'+byte(i))
		b = be.AppendUint64(b, uint64(when.UnixMilli()))
		if tag == PrivateKey {
			b = append(b, "\x00\x00\x00\x03key\x00\x00\x00\x01"...)
		}
		if version == 2 {
			b = append(b, "\x00\x05X.509"...)
		}
		b = append(b, "\x00\x00\x00\x03der"...)
	}
	return append(b, seal(b, password)...)
}

func TestParse(t *testing.T) {
	for name, content := range map[string][]byte{
		"JKS":           keystore(magicJKS, 2, Certificate, DefaultPassword, early, late),
		"JKS version 1": keystore(magicJKS, 1, Certificate, DefaultPassword, early, late),
		"JCEKS":         keystore(magicJCEKS, 2, Certificate, DefaultPassword, early, late),
		"private keys":  keystore(magicJKS, 2, PrivateKey, DefaultPassword, early, late),
	} {
		s, err := Parse(content)
		if err != nil || !Has(content) || len(s.Entries) != 2 || s.Entries[0].Alias != "a" || !s.Entries[0].Time.Equal(early) ||
			s.Entries[1].Alias != "b" || !s.Entries[1].Time.Equal(late) {
			t.Errorf("%s: %+v, %v", name, s.Entries, err)
		}
		if s.Sealed(DefaultPassword) != (name != "JCEKS") || s.Sealed("other") {
			t.Errorf("%s: sealed with %q: %v, with another password: %v", name, DefaultPassword, s.Sealed(DefaultPassword), s.Sealed("other"))
		}
	}
	secret := keystore(magicJCEKS, 2, 3, DefaultPassword, late)
	if s, err := Parse(secret); err == nil || len(s.Entries) != 1 || !s.Entries[0].Time.Equal(late) {
		t.Errorf("a secret key: %+v, %v", s.Entries, err)
	}
}

// TestParseFaults: no keystore that is cut short or has a byte too many is read to its end, however it is sealed.
func TestParseFaults(t *testing.T) {
	whole := keystore(magicJKS, 2, Certificate, DefaultPassword, early, late)
	body := whole[:len(whole)-20]
	for n := range body {
		cut := append(bytes.Clone(body[:n]), seal(body[:n], DefaultPassword)...)
		if _, err := Parse(cut); err == nil {
			t.Errorf("the first %d bytes are taken", n)
		}
	}
	if _, err := Parse(append([]byte(nil), append(whole, 0)...)); err == nil {
		t.Error("a byte too many is taken")
	}
	for n := range whole {
		other := bytes.Clone(whole)
		other[n] ^= 0x80
		if s, err := Parse(other); err == nil && s.Sealed(DefaultPassword) {
			t.Errorf("byte %d may have any value", n)
		}
	}
	huge := []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff----------------")
	if s, err := Parse(huge); err == nil || len(s.Entries) != 1 {
		t.Errorf("lengths beyond the file: %d entries, %v", len(s.Entries), err)
	}
}

// TestClamp: a time before 1970 is negative, and stays.
func TestClamp(t *testing.T) {
	content := keystore(magicJKS, 2, Certificate, DefaultPassword, early, late)
	before := bytes.Clone(content)
	s, err := Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Clamp(epoch, DefaultPassword); !bytes.Equal(got, keystore(magicJKS, 2, Certificate, DefaultPassword, early, epoch)) {
		t.Errorf("it became %q", got)
	}
	if !bytes.Equal(before, content) {
		t.Error("the input changed")
	}
	if got := s.Clamp(late, DefaultPassword); !bytes.Equal(got, content) {
		t.Errorf("without a later time it became %q", got)
	}
}

func FuzzClamp(f *testing.F) {
	f.Add(keystore(magicJKS, 2, Certificate, DefaultPassword, early, late), int64(0))
	f.Add(keystore(magicJKS, 1, PrivateKey, DefaultPassword, early, late), int64(0))
	f.Add(keystore(magicJCEKS, 2, 3, DefaultPassword, late), int64(-1))
	f.Fuzz(func(t *testing.T, content []byte, seconds int64) {
		s, err := Parse(content)
		if err != nil {
			return
		}
		latest := time.Unix(seconds%(1<<40), 0)
		got := s.Clamp(latest, DefaultPassword)
		now, err := Parse(got)
		if err != nil || len(now.Entries) != len(s.Entries) || len(got) != len(content) {
			t.Fatalf("%d entries of %d, %v", len(now.Entries), len(s.Entries), err)
		}
		for i, e := range now.Entries {
			if want := s.Entries[i]; e.Time.After(latest) || e.Alias != want.Alias || e.Tag != want.Tag {
				t.Fatalf("%+v became %+v", want, e)
			}
		}
	})
}
