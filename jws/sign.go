package jws

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// Sign makes a compact token with alg EdDSA (RFC 8037) over claims, which must
// encode to a JSON object. It returns ErrMalformed for anything that [Parse]
// would refuse, a token longer than [MaxToken] among it, and ErrAlgorithm for a
// key of the wrong size. The caller makes sure that one key signs one typ only.
func Sign(key ed25519.PrivateKey, kid, typ string, claims any) (string, error) {
	if len(key) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("signing token: %w", ErrAlgorithm)
	}
	header, err := encodeJSON(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid,omitempty"`
		Typ string `json:"typ,omitempty"`
	}{"EdDSA", kid, typ})
	if err != nil {
		return "", fmt.Errorf("signing token: header: %w", ErrMalformed)
	}
	if h, _, err := parseHeader(header, false); err != nil || h.Kid != kid || h.Typ != typ {
		return "", fmt.Errorf("signing token: header: %w", ErrMalformed)
	}
	return join(header, claims, ed25519.SignatureSize, func(text []byte) ([]byte, error) {
		return ed25519.Sign(key, text), nil
	})
}

// join makes a compact token of an encoded header, claims and the signature of
// the given size that sign puts over both.
func join(header []byte, claims any, signature int, sign func(text []byte) ([]byte, error)) (string, error) {
	payload, err := encodeJSON(claims)
	if err != nil {
		return "", fmt.Errorf("signing token: claims do not encode: %w", ErrMalformed)
	}
	if err := checkObject(payload); err != nil {
		return "", fmt.Errorf("signing token: claims: %w", ErrMalformed)
	}
	encoding := base64.RawURLEncoding
	size := encoding.EncodedLen(len(header)) + encoding.EncodedLen(len(payload)) + encoding.EncodedLen(signature) + 2
	if size > MaxToken {
		return "", fmt.Errorf("signing token: longer than %d bytes: %w", MaxToken, ErrMalformed)
	}
	token := make([]byte, 0, size)
	token = encoding.AppendEncode(token, header)
	token = append(token, '.')
	token = encoding.AppendEncode(token, payload)
	made, err := sign(token)
	if err != nil {
		return "", err
	}
	token = append(token, '.')
	token = encoding.AppendEncode(token, made)
	return string(token), nil
}

// encodeJSON is json.Marshal without HTML escapes, which would only make cookies
// longer: a token is base64url and never stands in a page.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
