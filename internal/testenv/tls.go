package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TLS has the paths of the PEM files for one side of a connection.
type TLS struct {
	ServerName string // the name in the server's certificate
	CA         string // the certificate that signed both sides'
	Cert, Key  string // of this side
}

// certificates makes an authority, and certificates for both sides of a
// connection to 127.0.0.1.
func certificates(t testing.TB, dir string) (server, client TLS) {
	t.Helper()
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kedge test"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
	}
	key := newKey(t)
	ca := filepath.Join(dir, "ca.pem")
	sign(t, ca, authority, authority, &key.PublicKey, key)
	side := func(name string, serial int64, usage x509.ExtKeyUsage) TLS {
		own := newKey(t)
		tls := TLS{
			ServerName: "localhost",
			CA:         ca,
			Cert:       filepath.Join(dir, name+".pem"),
			Key:        filepath.Join(dir, name+"-key.pem"),
		}
		sign(t, tls.Cert, &x509.Certificate{
			SerialNumber: big.NewInt(serial),
			Subject:      pkix.Name{CommonName: name},
			NotBefore:    authority.NotBefore,
			NotAfter:     authority.NotAfter,
			KeyUsage:     x509.KeyUsageDigitalSignature,
			ExtKeyUsage:  []x509.ExtKeyUsage{usage},
			DNSNames:     []string{tls.ServerName},
			IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		}, authority, &own.PublicKey, key)
		der, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, tls.Key, "PRIVATE KEY", der)
		return tls
	}
	return side("server", 2, x509.ExtKeyUsageServerAuth), side("client", 3, x509.ExtKeyUsageClientAuth)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, path string, cert, parent *x509.Certificate, key *ecdsa.PublicKey, by *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path, "CERTIFICATE", der)
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
