package rules

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// A Bond says which other files of a layer a file follows. A rule with bonds drops files that are out of date by
// themselves, and those that follow one.
type Bond struct {
	Stale   bool     // the file is out of date by itself
	Is      []string // names of the file for others
	Follows []string // names of the files that it follows
}

// cargoUnit is what Cargo keeps of a unit that it has built, as cargo/core/compiler/fingerprint writes it.
type cargoUnit struct {
	Rustc *uint64
	Deps  [][]json.RawMessage // package, name, whether it is public, hash
	Local []map[string]json.RawMessage
}

var (
	cargoHash = regexp.MustCompile(`^[0-9a-f]{16}$`)
	// cargoTime is the time of the newest file of a package, and the name of that.
	cargoTime = regexp.MustCompile(`^(\d{1,12})\.\d{9}s \(.+\)$`)
)

// cargoBond reads a file of a .fingerprint folder: the record of a unit, or beside it the hash of that.
func cargoBond(content []byte, f Facts) Bond {
	record, isRecord := strings.CutSuffix(f.Name, ".json")
	if !isRecord {
		if !cargoHash.Match(content) {
			return Bond{}
		}
		return Bond{Is: []string{string(content)}, Follows: []string{record}}
	}
	var u cargoUnit
	if json.Unmarshal(content, &u) != nil || u.Rustc == nil {
		return Bond{}
	}
	b := Bond{Is: []string{record}}
	for _, local := range u.Local {
		var when string
		if raw, ok := local["Precalculated"]; !ok || json.Unmarshal(raw, &when) != nil {
			continue
		}
		m := cargoTime.FindStringSubmatch(when)
		b.Stale = b.Stale || m != nil && number(m[1]) > f.Epoch
	}
	for _, dep := range u.Deps {
		if len(dep) != 4 {
			return Bond{}
		}
		sum, err := strconv.ParseUint(string(dep[3]), 10, 64)
		if err != nil {
			return Bond{}
		}
		b.Follows = append(b.Follows, hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, sum)))
	}
	return b
}

func isCargoUnit(content []byte, f Facts) bool { return len(cargoBond(content, f).Is) > 0 }
