package cause

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/format/jks"
)

const maxKeys = 4 << 20 // bytes of a file with keys; bundles of certificates have some hundred KiB

var (
	pemBegin  = []byte("-----BEGIN ")
	sshPublic = regexp.MustCompile(`^(?:ssh|ecdsa|sk)-[\w.@-]+ AAAA[\w+/=]+`)
	// A key in BIND's configuration, or after a name for a key.
	keyText = regexp.MustCompile(`(\bkey\s+"?[\w.-]+"?\s*\{\s*algorithm\s+"?hmac-[\w-]+"?\s*;\s*secret\s+"[A-Za-z0-9+/]*)$|` +
		`(?i:\b[\w.-]*(?:(?:encryption|signing|secret|private|session|master|cookie|auth|access|api|jwt|hmac)[._-]?key|secret)(?:[._-]?base)?["']?\s*(?:=>|[:=])\s*["']?)([A-Za-z0-9+/_-]*)$`)
	valueText = regexp.MustCompile(`^([A-Za-z0-9+/_-]*={0,2})(?:["'\s;,]|$)`)
	oidData   = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01} // PKCS #7 data
)

// keys explains PEM, DER and the public keys of SSH. It shows nothing of a private key.
func (f *finder) keys(p pair, spans []span) bool {
	if p.first.Size() > maxKeys || p.second.Size() > maxKeys {
		return false
	}
	a, ok1 := whole(p.first)
	b, ok2 := whole(p.second)
	if !ok1 || !ok2 {
		return false
	}
	at := spans[0]
	c := Cause{Where: p.where, Offset: at.a}
	switch {
	case bytes.Contains(a, pemBegin) && bytes.Contains(b, pemBegin):
		return f.pem(p, spans, a, b)
	case sshPublic.Match(a) && sshPublic.Match(b) && !bytes.Equal(sshPublic.Find(a), sshPublic.Find(b)):
		c.Kind, c.First, c.Second = SSHKey, printable(a), printable(b)
	case derPrivate(a) && derPrivate(b):
		c.Kind, c.First, c.Second = PrivateKey, "private key", "another private key"
	case certificate(&c, a, b):
	case len(a) > 32 && a[0] == 0x30 && bytes.Contains(a[:32], oidData) && len(b) > 32 && b[0] == 0x30 && bytes.Contains(b[:32], oidData):
		c.Kind, c.Format = Keystore, "PKCS #12"
		c.Why = "A PKCS #12 keystore is sealed with a random salt."
	default:
		return false
	}
	f.add(c)
	return true
}

func derPrivate(b []byte) bool {
	if len(b) < 32 || b[0] != 0x30 {
		return false
	}
	if _, err := x509.ParsePKCS8PrivateKey(b); err == nil {
		return true
	}
	if _, err := x509.ParsePKCS1PrivateKey(b); err == nil {
		return true
	}
	_, err := x509.ParseECPrivateKey(b)
	return err == nil
}

// certificate fills in c if both sides are a certificate in DER.
func certificate(c *Cause, a, b []byte) bool {
	if len(a) < 64 || len(b) < 64 || a[0] != 0x30 || b[0] != 0x30 {
		return false
	}
	x, err1 := x509.ParseCertificate(a)
	y, err2 := x509.ParseCertificate(b)
	if err1 != nil || err2 != nil {
		return false
	}
	var what []string
	if !x.NotBefore.Equal(y.NotBefore) || !x.NotAfter.Equal(y.NotAfter) {
		what = append(what, "validity")
	}
	if !bytes.Equal(x.RawSubjectPublicKeyInfo, y.RawSubjectPublicKeyInfo) {
		what = append(what, "key")
	}
	if x.SerialNumber.Cmp(y.SerialNumber) != 0 {
		what = append(what, "serial number")
	}
	if len(what) == 0 {
		what = append(what, "signature")
	}
	c.Kind, c.Format = Certificate, "X.509"
	c.First = "from " + x.NotBefore.UTC().Format(time.RFC3339) + ", serial " + printable([]byte(x.SerialNumber.Text(16)))
	c.Second = "from " + y.NotBefore.UTC().Format(time.RFC3339) + ", serial " + printable([]byte(y.SerialNumber.Text(16)))
	c.Why = "The build created a certificate; these differ: " + strings.Join(what, ", ") + "."
	return true
}

// pem compares the blocks of two PEM files one by one.
func (f *finder) pem(p pair, spans []span, a, b []byte) bool {
	var blocks []span // in both texts
	hit := false
	for i, j := 0, 0; !f.stopped(); {
		x, from1, to1 := nextBlock(a, i)
		y, from2, to2 := nextBlock(b, j)
		if x == nil || y == nil || x.Type != y.Type {
			break
		}
		i, j = to1, to2
		blocks = append(blocks, span{int64(from1), int64(to1), int64(from2), int64(to2)})
		if bytes.Equal(x.Bytes, y.Bytes) {
			continue
		}
		hit = true
		c := Cause{Where: p.where, Offset: int64(from1), Format: "PEM"}
		if x.Type != "CERTIFICATE" || !certificate(&c, x.Bytes, y.Bytes) {
			describePEM(&c, p.name, x.Type)
		}
		if (c.Kind == Certificate || c.Kind == PrivateKey) && strings.HasPrefix(path.Base(p.name), "ssl-cert-snakeoil.") {
			c.Fix = "Remove both files of ssl-cert-snakeoil in the same RUN, and run make-ssl-cert generate-default-snakeoil when the container starts."
		}
		f.add(c)
	}
	if !hit {
		return false
	}
	var rest []span
	for _, s := range spans {
		inside := false
		for _, k := range blocks {
			inside = inside || s.a >= k.a && s.aEnd <= k.aEnd && s.b >= k.b && s.bEnd <= k.bEnd
		}
		// A range that extends into the next block holds key material, which must not be shown.
		if !inside && !bytes.Contains(a[s.a:min(s.aEnd, int64(len(a)))], pemBegin) && !bytes.Contains(a[s.a:min(s.aEnd, int64(len(a)))], []byte("-----END")) {
			rest = append(rest, s)
		}
	}
	if len(rest) > 0 && len(blocks) > 0 {
		f.explain(p, rest)
	}
	return true
}

func describePEM(c *Cause, name, kind string) {
	c.First, c.Second = strings.ToLower(kind), "another "+strings.ToLower(kind)
	switch {
	case strings.HasPrefix(path.Base(name), "ssh_host_"):
		c.Kind = SSHKey
	case strings.HasSuffix(kind, "PRIVATE KEY"):
		c.Kind = PrivateKey
	case strings.HasSuffix(kind, "PUBLIC KEY"):
		c.Kind, c.Why = PrivateKey, "The build created a key pair, and this is the public key."
	case strings.Contains(kind, "PARAMETERS"):
		c.Kind, c.Why = Random, "The build searched for parameters at random."
		c.Fix = "Use a named group such as ffdhe3072 instead of your own parameters."
	case strings.HasPrefix(kind, "CERTIFICATE"), strings.HasSuffix(kind, "CERTIFICATE"), kind == "X509 CRL":
		c.Kind = Certificate
	default:
		c.Kind, c.Why = Random, fmt.Sprintf("A PEM block %q differs: it is random, signed or encrypted.", printable([]byte(kind)))
	}
}

// secretKey finds the value of a key to sign, encrypt or log in with. It shows nothing of it.
func (f *finder) secretKey(w *window) (found, bool) {
	if w.bytes || !w.near("key", "secret") {
		return found{}, false
	}
	m, n := keyText.FindSubmatchIndex(w.a[:w.at]), keyText.FindSubmatchIndex(w.b[:w.bt])
	x, y := valueText.FindSubmatchIndex(w.a[w.at:]), valueText.FindSubmatchIndex(w.b[w.bt:])
	if m == nil || n == nil || x == nil || y == nil {
		return found{}, false
	}
	hit := found{
		Cause{Kind: SecretKey, First: "secret key", Second: "another secret key"},
		[2]int{m[0], w.at + x[3]}, [2]int{n[0], w.bt + y[3]},
	}
	switch {
	case m[2] >= 0: // BIND's configuration
		hit.cause.Format = "TSIG"
		hit.cause.Why = "Installing bind9 creates the key with which rndc controls named. Everyone who has the image has the key."
		hit.cause.Fix = "Remove /etc/bind/rndc.key in the same RUN, and run rndc-confgen -a when the container starts."
	case !chance(w.a[m[4]:w.at+x[3]], w.b[n[4]:w.bt+y[3]]):
		return found{}, false
	case path.Base(w.name) == ".rscinfo":
		hit.cause.Why = "Next.js creates a key to encrypt the variables of server actions. Everyone who has the image has the key."
		hit.cause.Fix = "Give the build NEXT_SERVER_ACTIONS_ENCRYPTION_KEY as a secret, or remove .next/cache in the same RUN."
	}
	return hit, true
}

// nextBlock returns the first PEM block at or after from, with its start and end.
func nextBlock(b []byte, from int) (*pem.Block, int, int) {
	i := bytes.Index(b[from:], pemBegin)
	if i < 0 {
		return nil, 0, 0
	}
	block, rest := pem.Decode(b[from+i:])
	if block == nil {
		return nil, 0, 0
	}
	return block, from + i, len(b) - len(rest)
}

// keystore reads Java's keystores, which record when each entry was added.
func (f *finder) keystore(p pair, spans []span) bool {
	a, ok1 := entriesOf(p.first)
	b, ok2 := entriesOf(p.second)
	if !ok1 || !ok2 {
		return false
	}
	c := Cause{Kind: Keystore, Where: p.where, Offset: spans[0].a, Format: "JKS"}
	for _, alias := range slices.Sorted(maps.Keys(a)) {
		x, y := a[alias], b[alias]
		if y.IsZero() || x.Equal(y) {
			continue
		}
		c.First, c.Second = printable([]byte(alias))+" of "+stampOf(x), printable([]byte(alias))+" of "+stampOf(y)
		c.Clock = f.clock(x, y, 2*time.Second, p.times)
		c.Why = "A Java keystore records when each entry was added."
		break
	}
	f.add(c)
	return true
}

// entriesOf returns the times of a keystore's entries by alias, as far as they can be read.
func entriesOf(r *io.SectionReader) (map[string]time.Time, bool) {
	if !jks.Has(readAt(r, 0, 4)) {
		return nil, false
	}
	times := map[string]time.Time{}
	if content, ok := whole(r); ok {
		store, _ := jks.Parse(content) // with an error, it has the entries before the fault
		for _, e := range store.Entries {
			times[e.Alias] = e.Time
		}
	}
	return times, true
}
