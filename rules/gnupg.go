package rules

import (
	"bytes"
	"encoding/binary"
	"math"
	"path"
)

// isGnuPG wants a keybox without keys, which is its first blob (GnuPG's kbx/keybox-blob.c), or a trust database,
// whose first record says its version (doc/DETAILS).
func isGnuPG(content []byte, f Facts) bool {
	if path.Base(f.Name) == "trustdb.gpg" {
		return len(content) > 0 && len(content)%40 == 0 && bytes.HasPrefix(content, []byte("\x01gpg\x03"))
	}
	return len(content) == 32 && bytes.HasPrefix(content, []byte("\x00\x00\x00\x20\x01\x01")) && string(content[8:12]) == "KBXf"
}

// clampGnuPG rewrites when the file was made, and when a keybox was last tidied up.
func clampGnuPG(content []byte, f Facts) []byte {
	if !isGnuPG(content, f) || f.Epoch < 0 || f.Epoch > math.MaxUint32 {
		return content
	}
	times := []int{12}
	if len(content) == 32 {
		times = []int{16, 20}
	}
	content = bytes.Clone(content)
	for _, at := range times {
		if int64(binary.BigEndian.Uint32(content[at:])) > f.Epoch {
			binary.BigEndian.PutUint32(content[at:], uint32(f.Epoch))
		}
	}
	return content
}
