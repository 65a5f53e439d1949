// Package jws reads and makes compact JSON Web Signatures (RFC 7515) whose
// payload is a JSON object, strictly. Every JWT that this program looks at goes
// through it: session tokens, ID tokens, logout tokens, bearer tokens.
//
// Call [Parse] first: it accepts a shape or refuses it and needs no key. Then
// choose a key by [Token].Header and the issuer you expect, call [Token.Verify]
// with the one algorithm that this key is used with, and only then read
// [Token.Claims]. [Sign] makes a token with an Ed25519 key, [SignWith] with any
// key of ours. [ParseProof] reads a proof of possession (RFC 9449, section 4.2),
// the one kind of token that brings its key along: a thumbprint of that key
// ([Thumbprint], RFC 7638) in another token says whose it is.
//
// Promised: the length (at most [MaxToken]), the alphabet and the two dots are
// checked before anything is split, decoded or allocated; base64url is
// canonical, so that no second spelling of a token exists; header and payload
// are JSON objects (RFC 8259) in valid UTF-8 without duplicate members at any
// depth, trailing text, huge numbers or deep nesting; member names are compared
// exactly, never case-folded; "none", HMAC algorithms, JWE and every header
// member that brings a key or changes the meaning of a token (jku, x5u, crit,
// b64, zip, enc, and jwk except in ParseProof) are refused; one key verifies one
// algorithm only (RFC 8725, sections 3.1 to 3.12). Nothing is ever fetched because
// of a token.
//
// Trusted: the key that the caller passes to Verify, apart from its kind, size
// and a few known weaknesses, which are checked.
//
// Left to the caller: which key, which algorithm, which "typ" ([TypeIs]), and
// every claim's meaning: issuer, audience, times. Claims of a token that was not
// verified are a stranger's words. Errors never contain parts of a token.
package jws

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"unicode"
	"unicode/utf8"
)

// MaxToken is the length in bytes of the longest compact token that [Parse]
// looks at and that [Sign] makes.
const MaxToken = 8 << 10

const (
	maxKid  = 256 // bytes
	maxType = 128 // bytes, for typ and cty
)

// What went wrong, to be compared with errors.Is. All four mean the same to
// whoever sent the token: refused.
var (
	// ErrMalformed: not a compact JWS of the strict form above.
	ErrMalformed = errors.New("malformed token")
	// ErrAlgorithm: an algorithm that is not ours to accept, or one that
	// does not fit the key.
	ErrAlgorithm = errors.New("algorithm not accepted")
	// ErrSignature: the signature is not this key's over these bytes.
	ErrSignature = errors.New("signature does not verify")
	// ErrClaim: a claim has another type or range than its name requires.
	ErrClaim = errors.New("unacceptable claim")
)

// Header holds the header members that choose how a token is checked. Absent
// members are empty strings.
type Header struct {
	Alg string // one of the algorithms of [Token.Verify]
	Kid string // at most 256 bytes, printable; compare it byte by byte
	Typ string // as sent; compare it with [TypeIs]
}

// Token is a token that has the right shape. Nothing in it is to be believed
// before [Token.Verify] returned nil.
type Token struct {
	Header  Header
	Payload []byte // a strict JSON object, decoded from base64url

	signed    string // header.payload, as sent
	signature []byte
}

// String, GoString, MarshalJSON and LogValue keep tokens out of logs: whoever
// reads a bearer token in a log can use it.
func (Token) String() string               { return "jws.Token(redacted)" }
func (Token) GoString() string             { return "jws.Token(redacted)" }
func (Token) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
func (Token) LogValue() slog.Value         { return slog.StringValue("redacted") }

func malformed(what string) error { return fmt.Errorf("parsing token: %s: %w", what, ErrMalformed) }

// Refusals that a flood of rubbish meets first are made once: refusing 16 MiB
// of dots must not allocate.
var (
	errTooLong  = malformed("longer than 8192 bytes")
	errAlphabet = malformed("character outside base64url")
	errDots     = malformed("not three non-empty parts")
)

// Parse checks the shape of a compact token (RFC 7515, section 7.1) and decodes
// it. It returns ErrMalformed or, for an algorithm that is refused by name,
// ErrAlgorithm. It does not check the signature.
func Parse(compact string) (*Token, error) {
	token, _, err := parse(compact, false)
	return token, err
}

// parse is Parse, or [ParseProof] when a proof is asked for.
func parse(compact string, proof bool) (*Token, json.RawMessage, error) {
	first, second, err := split(compact)
	if err != nil {
		return nil, nil, err
	}
	rawHeader, err := decode(compact[:first])
	if err != nil {
		return nil, nil, malformed("header is not canonical base64url")
	}
	header, key, err := parseHeader(rawHeader, proof)
	if err != nil {
		return nil, nil, err
	}
	payload, err := decode(compact[first+1 : second])
	if err != nil {
		return nil, nil, malformed("payload is not canonical base64url")
	}
	if err := checkObject(payload); err != nil {
		return nil, nil, malformed("payload: " + err.Error())
	}
	signature, err := decode(compact[second+1:])
	if err != nil {
		return nil, nil, malformed("signature is not canonical base64url")
	}
	return &Token{Header: header, Payload: payload, signed: compact[:second], signature: signature}, key, nil
}

// split finds the two dots of a compact token.
func split(compact string) (first, second int, err error) {
	// The order keeps the cost of rubbish constant: length, then one pass
	// over the bytes without splitting (CVE-2025-27144, CVE-2025-30204).
	if len(compact) > MaxToken {
		return 0, 0, errTooLong
	}
	first, second = -1, -1
	for i := 0; i < len(compact); i++ {
		switch c := compact[i]; {
		case alphabet[c]:
		case c != '.':
			return 0, 0, errAlphabet
		case first < 0:
			first = i
		case second < 0:
			second = i
		default:
			return 0, 0, errDots
		}
	}
	if first < 1 || second < first+2 || second == len(compact)-1 {
		return 0, 0, errDots
	}
	return first, second, nil
}

// parseHeader reads a decoded header (RFC 7515, section 4), of a proof together
// with the key in it.
func parseHeader(raw []byte, proof bool) (Header, json.RawMessage, error) {
	return readHeader(raw, proof, known)
}

// readHeader is parseHeader for the algorithms that accept says.
func readHeader(raw []byte, proof bool, accept func(alg string) bool) (Header, json.RawMessage, error) {
	if err := checkObject(raw); err != nil {
		return Header{}, nil, malformed("header: " + err.Error())
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return Header{}, nil, malformed("header is not a JSON object")
	}
	key, err := headerKey(members, proof)
	if err != nil {
		return Header{}, nil, err
	}
	var h Header
	if h.Alg, err = headerString(members, "alg", maxType); err != nil {
		return Header{}, nil, err
	}
	if !accept(h.Alg) {
		return Header{}, nil, fmt.Errorf("parsing token: %w", ErrAlgorithm)
	}
	if h.Kid, err = headerString(members, "kid", maxKid); err != nil {
		return Header{}, nil, err
	}
	if h.Typ, err = headerString(members, "typ", maxType); err != nil {
		return Header{}, nil, err
	}
	cty, err := headerString(members, "cty", maxType)
	if err != nil {
		return Header{}, nil, err
	}
	if TypeIs(cty, "JWT") {
		return Header{}, nil, malformed("nested token")
	}
	// Whatever may bring its key must say what it is, so that it is nothing
	// else (RFC 8725, section 3.11).
	if proof && h.Typ == "" {
		return Header{}, nil, malformed("header member typ is missing")
	}
	return h, key, nil
}

// headerKey refuses the header members that bring a key or change the meaning of
// a token, and gives the key of a proof.
func headerKey(members map[string]json.RawMessage, proof bool) (json.RawMessage, error) {
	// A key that comes with the token proves nothing (CVE-2018-0114), an
	// address in it would make us fetch what an attacker names, and the
	// others change what the signature covers or mark a JWE.
	for _, name := range []string{"jwk", "jku", "x5u", "crit", "b64", "zip", "enc"} {
		if _, present := members[name]; present && (name != "jwk" || !proof) {
			return nil, malformed("header member " + name + " is not accepted")
		}
	}
	if !proof {
		return nil, nil
	}
	if err := checkPublicJWK(members["jwk"]); err != nil {
		return nil, err
	}
	return members["jwk"], nil
}

// headerString reads an optional header member that must be a printable,
// non-empty string when it is there.
func headerString(members map[string]json.RawMessage, name string, limit int) (string, error) {
	raw, present := members[name]
	if !present {
		return "", nil
	}
	s, err := asString(raw)
	if err != nil || s == "" || len(s) > limit {
		return "", malformed("header member " + name + " is not a string of acceptable length")
	}
	for _, r := range s {
		// Control and format characters (NUL, right-to-left marks) make
		// two different names look alike in a log or a key store.
		if !unicode.IsPrint(r) {
			return "", malformed("header member " + name + " is not printable")
		}
	}
	return s, nil
}

// TypeIs reports whether a header's typ means the media type want: ASCII case is
// ignored and an "application/" in front counts as absent (RFC 7515, section
// 4.1.9). An empty typ is never equal to anything.
func TypeIs(typ, want string) bool {
	typ, want = trimApplication(typ), trimApplication(want)
	if typ == "" || len(typ) != len(want) {
		return false
	}
	for i := 0; i < len(typ); i++ {
		if lower(typ[i]) != lower(want[i]) {
			return false
		}
	}
	return true
}

func trimApplication(s string) string {
	const prefix = "application/"
	if len(s) <= len(prefix) {
		return s
	}
	for i := 0; i < len(prefix); i++ {
		if lower(s[i]) != prefix[i] {
			return s
		}
	}
	return s[len(prefix):]
}

// lower folds ASCII only: Unicode folding would make U+017F an s.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// alphabet marks the 64 characters of base64url (RFC 4648, section 5).
var alphabet = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		set[c] = true
	}
	return set
}()

// strict refuses padding and non-zero trailing bits. It would still skip CR and
// LF: Parse has checked the alphabet before.
var strict = base64.RawURLEncoding.Strict()

func decode(part string) ([]byte, error) { return strict.DecodeString(part) }

// asString decodes a JSON string, which [checkObject] has seen before. Almost all
// strings have no escapes and are copied as they are.
func asString(raw []byte) (string, error) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' || !utf8.Valid(raw) {
		return "", ErrClaim
	}
	plain := true
	for _, c := range raw[1 : len(raw)-1] {
		plain = plain && c >= ' ' && c != '"' && c != '\\'
	}
	if plain {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", ErrClaim
	}
	return s, nil
}
