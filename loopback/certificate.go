package loopback

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// keyHash is the SHA-256 of a certificate's SubjectPublicKeyInfo.
func keyHash(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// CertificateOf is the key hash of the client certificate of a connection, zero when there is none that is valid now. Who
// signed it does not matter: TLS has proven that the client holds the key (RFC 8446 section 4.4.3), and the key is what the
// operator wrote down.
func CertificateOf(state *tls.ConnectionState, now time.Time) [sha256.Size]byte {
	if state == nil || !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return [sha256.Size]byte{}
	}
	leaf := state.PeerCertificates[0]
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return [sha256.Size]byte{}
	}
	return keyHash(leaf)
}

// ParseCertificate reads what an operator writes for a client certificate: "sha256:" and 64 hexadecimal digits, or a PEM file
// with one certificate or one public key.
func ParseCertificate(text string) ([sha256.Size]byte, error) {
	if digits, ok := strings.CutPrefix(text, "sha256:"); ok {
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != sha256.Size || [sha256.Size]byte(raw) == ([sha256.Size]byte{}) {
			return [sha256.Size]byte{}, errors.New("reading client certificate: sha256: wants 64 hexadecimal digits, the hash of the public key (openssl x509 -in FILE -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum)")
		}
		return [sha256.Size]byte(raw), nil
	}
	raw, err := os.ReadFile(text)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("reading client certificate: %w", err)
	}
	block, rest := pem.Decode(raw)
	if block == nil {
		return [sha256.Size]byte{}, fmt.Errorf("reading client certificate: %s holds no PEM; convert it with: openssl x509 -inform DER -in FILE", text)
	}
	if second, _ := pem.Decode(rest); second != nil {
		return [sha256.Size]byte{}, fmt.Errorf("reading client certificate: %s holds several PEM blocks; keep the caller's own certificate alone, without its issuers and without a private key", text)
	}
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("reading client certificate: %s: %w", text, err)
		}
		return keyHash(cert), nil
	case "PUBLIC KEY":
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("reading client certificate: %s: %w", text, err)
		}
		return sha256.Sum256(block.Bytes), nil
	}
	return [sha256.Size]byte{}, fmt.Errorf("reading client certificate: %s holds a %s; write the file of the caller's certificate", text, strings.ToLower(block.Type))
}
