package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"

	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	maxKid          = 256     // bytes
	minModulus      = 2048    // bits, RFC 7518 section 3.3
	maxModulus      = 8192    // bits; a larger one costs us more than it protects
	maxExponentSize = 4       // bytes
	maxCertificate  = 8 << 10 // bytes of base64 of one certificate
)

var (
	errPrivate = errors.New("it holds private or symmetric key material")
	errPurpose = errors.New("it is not for signatures")
	errKind    = errors.New("its kind is not one we know")
	errMember  = errors.New("a member has the wrong type or size")
	errWeak    = errors.New("it is too weak")
	errAlg     = errors.New("its algorithm is not accepted or does not fit")
	errChain   = errors.New("its certificate belongs to another key")
)

// Key is one usable public key. It verifies one algorithm.
type Key struct {
	Kid    string // may be empty
	Alg    string
	Public crypto.PublicKey
}

// ReadKey reads one member of a key set, or the key in the header of a proof
// (RFC 7517, RFC 7518 section 6, RFC 8037). algs are the algorithms that are
// accepted.
func ReadKey(raw json.RawMessage, algs []string) (Key, error) {
	var m jws.Claims
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &m) != nil {
		return Key{}, errMember
	}
	// Whoever publishes the private half has lost the key; a shared secret
	// in public is none.
	for _, name := range []string{"k", "d", "p", "q", "dp", "dq", "qi", "oth"} {
		if _, present := m[name]; present {
			return Key{}, errPrivate
		}
	}
	use, present, err := m.String("use")
	if err != nil || (present && use != "sig") {
		return Key{}, errPurpose
	}
	operations, present, err := m.Strings("key_ops")
	if err != nil || (present && !slices.Contains(operations, "verify")) {
		return Key{}, errPurpose
	}
	kid, present, err := m.String("kid")
	if err != nil || len(kid) > maxKid || (present && kid == "") {
		return Key{}, errMember
	}
	key, fitting, err := readPublic(m)
	if err != nil {
		return Key{}, err
	}
	alg, err := chooseAlg(m, fitting, algs)
	if err != nil {
		return Key{}, err
	}
	if err := checkChain(m, key); err != nil {
		return Key{}, err
	}
	return Key{Kid: kid, Alg: alg, Public: key}, nil
}

// chooseAlg pins the one algorithm that a key verifies (RFC 8725, section 3.1):
// the one it states, or the only one that fits. An RSA key that states none is
// for RS256, the default of OpenID Connect, where the provider offers that, and
// otherwise for the only RSA algorithm it offers.
func chooseAlg(m jws.Claims, fitting, algs []string) (string, error) {
	stated, present, err := m.String("alg")
	if err != nil {
		return "", errMember
	}
	usable := slices.DeleteFunc(slices.Clone(fitting), func(alg string) bool { return !slices.Contains(algs, alg) })
	switch {
	case present && slices.Contains(usable, stated):
		return stated, nil
	case present || len(usable) == 0:
		return "", errAlg
	case len(usable) == 1 || usable[0] == "RS256":
		return usable[0], nil
	}
	return "", errAlg
}

// readPublic gives the key and the algorithms that it could be used with, the
// commonest first.
func readPublic(m jws.Claims) (crypto.PublicKey, []string, error) {
	kty, _, err := m.String("kty")
	if err != nil {
		return nil, nil, errMember
	}
	curve, _, err := m.String("crv")
	if err != nil {
		return nil, nil, errMember
	}
	switch {
	case kty == "RSA":
		key, err := readRSA(m)
		return key, []string{"RS256", "PS256", "RS384", "RS512", "PS384", "PS512"}, err
	case kty == "EC" && curve == "P-256":
		key, err := readEC(m, elliptic.P256(), 32)
		return key, []string{"ES256"}, err
	case kty == "EC" && curve == "P-384":
		key, err := readEC(m, elliptic.P384(), 48)
		return key, []string{"ES384"}, err
	case kty == "OKP" && curve == "Ed25519":
		x, err := octets(m, "x", ed25519.PublicKeySize)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, nil, errMember
		}
		return ed25519.PublicKey(x), []string{"EdDSA"}, nil
	}
	return nil, nil, errKind
}

func readRSA(m jws.Claims) (*rsa.PublicKey, error) {
	n, err := octets(m, "n", maxModulus/8+1)
	if err != nil {
		return nil, err
	}
	e, err := octets(m, "e", maxExponentSize)
	if err != nil {
		return nil, err
	}
	modulus := new(big.Int).SetBytes(n)
	exponent := new(big.Int).SetBytes(e).Int64()
	if bits := modulus.BitLen(); bits < minModulus || bits > maxModulus || modulus.Bit(0) == 0 {
		return nil, errWeak
	}
	if exponent < 3 || exponent%2 == 0 || exponent > 1<<31-1 {
		return nil, errWeak
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent)}, nil
}

// readEC refuses a point that is not on the curve.
func readEC(m jws.Claims, curve elliptic.Curve, size int) (*ecdsa.PublicKey, error) {
	x, err := octets(m, "x", size)
	if err != nil {
		return nil, err
	}
	y, err := octets(m, "y", size)
	if err != nil {
		return nil, err
	}
	if len(x) != size || len(y) != size {
		return nil, errMember
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errWeak
	}
	return key, nil
}

// octets reads a base64url member in its one spelling.
func octets(m jws.Claims, name string, most int) ([]byte, error) {
	text, present, err := m.String(name)
	if err != nil || !present || text == "" || len(text) > base64.RawURLEncoding.EncodedLen(most) {
		return nil, errMember
	}
	value, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodeToString(value) != text {
		return nil, errMember
	}
	return value, nil
}

// checkChain looks at a certificate that comes with a key. It proves nothing
// and is not asked for, but one that belongs to another key shows that somebody
// assembled this entry.
func checkChain(m jws.Claims, key crypto.PublicKey) error {
	raw, present := m["x5c"]
	if !present {
		return nil
	}
	chain, _, err := m.Strings("x5c")
	if err != nil || raw[0] != '[' || len(chain) == 0 || len(chain[0]) > maxCertificate {
		return errChain
	}
	der, err := base64.StdEncoding.DecodeString(chain[0])
	if err != nil {
		return errChain
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return errChain
	}
	want, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return errChain
	}
	got, err := x509.MarshalPKIXPublicKey(certificate.PublicKey)
	if err != nil || !bytes.Equal(want, got) {
		return errChain
	}
	return nil
}
