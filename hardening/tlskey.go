package hardening

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// TLSKey is what the package needs of one TLS private key: not the key, but a secret derived from it and its public name.
// It prints as its name, in whatever way it is printed.
type TLSKey struct {
	kid      string
	alg      string
	notAfter time.Time
	extract  []byte            // HKDF-Extract over the PKCS#8 DER
	original [sha256.Size]byte // effective key of the original form
	hardware bool              // nothing can be derived: the key is known by its name only
}

// NewTLSKey derives from an exportable private key (*rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey). notAfter is
// the end of its certificate; the ring forgets the key a week after that.
//
// A key that lives in hardware cannot be exported and is an error: an HMAC under a key that could not be read would be an
// HMAC under nothing, which is how the first listing of this idea failed.
func NewTLSKey(key crypto.PrivateKey, notAfter time.Time) (TLSKey, error) {
	var k TLSKey
	switch key.(type) {
	case *rsa.PrivateKey:
		k.alg = "RSA"
	case *ecdsa.PrivateKey:
		k.alg = "ECDSA"
	case ed25519.PrivateKey:
		k.alg = "Ed25519"
	default:
		return TLSKey{}, fmt.Errorf("reading TLS key: a key of type %T cannot be exported; the ring needs an RSA, ECDSA or Ed25519 key in a file or from the internal CA", key)
	}
	der, err1 := x509.MarshalPKCS8PrivateKey(key)
	defer clear(der)
	spki, err2 := x509.MarshalPKIXPublicKey(key.(crypto.Signer).Public())
	extract, err3 := hkdf.Extract(sha256.New, der, []byte(labelExtract))
	if err := errors.Join(err1, err2, err3); err != nil {
		return TLSKey{}, fmt.Errorf("reading TLS key: %w", err)
	}
	sum := sha256.Sum256(spki)
	k.kid, k.notAfter, k.extract, k.original = hex.EncodeToString(sum[:]), notAfter, extract, originalKey(der)
	return k, nil
}

// HardwareKey names a private key that cannot be exported. The ring is never wrapped for it; it needs a [Wrapper].
func HardwareKey(key crypto.Signer, notAfter time.Time) (TLSKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return TLSKey{}, fmt.Errorf("reading TLS key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return TLSKey{kid: hex.EncodeToString(sum[:]), alg: "hardware", notAfter: notAfter, hardware: true}, nil
}

// ID is the key's public name: the lower-case hexadecimal SHA-256 of its SubjectPublicKeyInfo.
func (k TLSKey) ID() string { return k.kid }

// short is the name's first 16 digits, as versions and messages use it.
func (k TLSKey) short() string { return shortID(k.kid) }

func shortID(kid string) string { return kid[:min(16, len(kid))] }

// wrapKey is the AES-256 key under which this TLS key wraps the file key of one ring (RFC 5869: expand with the context in
// the info). Bound to ring and key, so that a stanza taken to another ring opens nothing.
func (k TLSKey) wrapKey(ring string) ([]byte, error) {
	if len(k.extract) == 0 {
		return nil, errors.New("deriving wrap key: the TLS key is empty")
	}
	return hkdf.Expand(sha256.New, k.extract, string(lp(lp(lp(nil, labelWrap), ring), k.kid)), fileKeySize)
}

// wrap seals a ring's file key for this TLS key.
func (k TLSKey) wrap(ring string, fileKey []byte) ([]byte, error) {
	key, err := k.wrapKey(ring)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return sealGCM(key, fileKey, stanzaContext(ring, k.kid))
}

// unwrap opens what wrap sealed.
func (k TLSKey) unwrap(ring string, ct []byte) ([]byte, error) {
	key, err := k.wrapKey(ring)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return openGCM(key, ct, stanzaContext(ring, k.kid))
}

// Format prints the public name for every verb; without it %+v would print the derived secrets.
func (k TLSKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "TLS key "+k.short()) }

// LogValue keeps structured logs to the public name.
func (k TLSKey) LogValue() slog.Value { return slog.StringValue("TLS key " + k.short()) }

// MarshalJSON writes the public name.
func (k TLSKey) MarshalJSON() ([]byte, error) { return []byte(`"TLS key ` + k.short() + `"`), nil }
