package image

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// clampShadow rewrites the third field of shadow(5), in days since 1970. Day 0 would ask for another
// password at the next login: in its place the field is empty, as useradd has it.
func clampShadow(content []byte, f facts) []byte {
	latest := f.epoch / (24 * 60 * 60)
	date := ""
	if latest > 0 {
		date = strconv.FormatInt(latest, 10)
	}
	lines := strings.SplitAfter(string(content), "\n")
	for i, line := range lines {
		fields := strings.Split(line, ":")
		if len(fields) != 9 {
			continue
		}
		if day, err := strconv.ParseInt(fields[2], 10, 64); err == nil && day > latest {
			fields[2] = date
			lines[i] = strings.Join(fields, ":")
		}
	}
	return []byte(strings.Join(lines, ""))
}

// isMachineID says whether a file has 128 bits in hexadecimal, as machine-id(5) has it.
func isMachineID(content []byte) bool {
	id := bytes.TrimSuffix(content, []byte("\n"))
	return len(id) == 32 && len(bytes.Trim(id, "0123456789abcdef")) == 0
}

// isGzip wants a header that a time can be changed in: without a checksum over it.
func isGzip(content []byte) bool {
	const headerCRC = 1 << 1
	return len(content) >= 18 && content[0] == 0x1f && content[1] == 0x8b && content[2] == 8 && content[3]&headerCRC == 0
}

func clampGzip(content []byte, f facts) []byte {
	if !isGzip(content) || int64(binary.LittleEndian.Uint32(content[4:])) <= f.epoch || f.epoch < 0 || f.epoch > math.MaxUint32 {
		return content
	}
	content = bytes.Clone(content)
	binary.LittleEndian.PutUint32(content[4:], uint32(f.epoch))
	return content
}

// isErlangCookie wants what Erlang makes up, 20 capital letters, or Debian's rabbitmq-server, 42 random bytes
// in base64; and none that somebody chose.
func isErlangCookie(content []byte) bool {
	word := bytes.TrimSuffix(content, []byte("\n"))
	if len(word) == 20 {
		return len(bytes.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")) == 0
	}
	random, err := base64.StdEncoding.DecodeString(string(word))
	return err == nil && len(random) == 42
}

// clampTar rewrites the times of a tar whose entries are small. One that is broken stays as it is.
func clampTar(content []byte, f facts) []byte {
	var out bytes.Buffer
	tr, tw := tar.NewReader(bytes.NewReader(content)), tar.NewWriter(&out)
	changed := false
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || isSparse(h) {
			return content
		}
		if h.ModTime.Unix() > f.epoch {
			h.ModTime, changed = time.Unix(f.epoch, 0), true
		}
		if err := tw.WriteHeader(h); err != nil {
			return content
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return content
		}
	}
	if !changed || tw.Close() != nil {
		return content
	}
	return out.Bytes()
}

// isConfigureLog wants the words that autoconf begins the log of a configure script with.
func isConfigureLog(content []byte) bool {
	return bytes.HasPrefix(content, []byte("This file contains any messages produced by compilers while\nrunning configure, "))
}

// pnpmTimes are the times in what pnpm keeps of an installation: in JSON, or in YAML.
var pnpmTimes = regexp.MustCompile(`"(?:checkedAt|lastValidatedTimestamp)": ?(\d{1,15})\b|\bprunedAt"?: "?(\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)`)

// clampPnpm rewrites milliseconds since 1970, and dates as HTTP has them.
func clampPnpm(content []byte, f facts) []byte {
	var out []byte
	last := 0
	for _, m := range pnpmTimes.FindAllSubmatchIndex(content, -1) {
		from, to, latest := m[2], m[3], strconv.FormatInt(f.epoch*1000, 10)
		if from >= 0 {
			if millis, err := strconv.ParseInt(string(content[from:to]), 10, 64); err != nil || millis <= f.epoch*1000 {
				continue
			}
		} else {
			from, to, latest = m[4], m[5], time.Unix(f.epoch, 0).UTC().Format(http.TimeFormat)
			if when, err := http.ParseTime(string(content[from:to])); err != nil || when.Unix() <= f.epoch {
				continue
			}
		}
		out = append(append(out, content[last:from]...), latest...)
		last = to
	}
	if last == 0 {
		return content
	}
	return append(out, content[last:]...)
}

// gemFolder is the name of the folder that RubyGems has an extension installed to, before it moves what
// is in it.
var gemFolder = regexp.MustCompile(`(/\.gem\.)\d{8}-\d+-[0-9a-z]+\b`)

func nameGemFolder(content []byte, _ facts) []byte {
	return gemFolder.ReplaceAll(content, []byte("${1}tmp"))
}
