package bearer

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"

	"github.com/anteroom-proxy/anteroom/jws"
)

// confirmation names the keys that a token is bound to (RFC 7800), by their
// thumbprints: of a DPoP key (RFC 9449, section 6.1), of a client certificate (RFC
// 8705, section 3.1). With both, both must be shown.
type confirmation struct {
	dpop, certificate string // base64url of SHA-256; empty: not bound
}

func (c confirmation) none() bool { return c == confirmation{} }

// readConfirmation refuses a token that is bound in a way that we cannot check:
// without that it would be one that is not bound.
func readConfirmation(c jws.Claims) (confirmation, error) {
	cnf, present, err := c.Object("cnf")
	if err != nil {
		return confirmation{}, no("token.cnf")
	}
	if !present {
		return confirmation{}, nil
	}
	var bound confirmation
	for name := range cnf {
		value, _, err := cnf.String(name)
		if err != nil || !isThumbprint(value) {
			return confirmation{}, no("token.cnf")
		}
		switch name {
		case "jkt":
			bound.dpop = value
		case "x5t#S256":
			bound.certificate = value
		default:
			return confirmation{}, no("token.cnf")
		}
	}
	if bound.none() {
		return confirmation{}, no("token.cnf")
	}
	return bound, nil
}

// isThumbprint is base64url of 32 bytes in its one spelling.
func isThumbprint(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == sha256.Size && base64.RawURLEncoding.EncodeToString(raw) == s
}

// isCertificate says whether the connection's client certificate is the one that
// the thumbprint names (RFC 8705, section 3). Who signed it does not matter.
func isCertificate(certificate *x509.Certificate, thumbprint string) bool {
	if certificate == nil || len(certificate.Raw) == 0 || thumbprint == "" {
		return false
	}
	sum := sha256.Sum256(certificate.Raw)
	return equal(base64.RawURLEncoding.EncodeToString(sum[:]), thumbprint)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
