package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// The names of these tests are rows of the table of JWT attacks.

func TestAttackNone(t *testing.T) {
	body := "." + b64(goodPayload) + "."
	t.Run("J1 none", func(t *testing.T) {
		_, err := Parse(b64(`{"alg":"none"}`) + body)
		wantErr(t, err, ErrMalformed)
	})
	t.Run("J2 none in other case", func(t *testing.T) {
		for bits := range 16 {
			name := []byte("none")
			for i := range name {
				if bits>>i&1 == 1 {
					name[i] -= 'a' - 'A'
				}
			}
			_, err := Parse(b64(`{"alg":"`+string(name)+`"}`) + body + "AAAA")
			wantErr(t, err, ErrAlgorithm)
		}
		for name, want := range map[string]error{
			"none ": ErrAlgorithm, " none": ErrAlgorithm, `n\u006fne`: ErrAlgorithm, "ｎｏｎｅ": ErrAlgorithm,
			`none\u0000`: ErrMalformed, `none\n`: ErrMalformed,
		} {
			_, err := Parse(b64(`{"alg":"`+name+`"}`) + body + "AAAA")
			wantErr(t, err, want)
		}
	})
	t.Run("J3 none with a signature kept", func(t *testing.T) {
		_, err := Parse(made(t, "EdDSA", `{"alg":"none"}`, goodPayload))
		wantErr(t, err, ErrAlgorithm)
	})
	t.Run("J4 signature stripped", func(t *testing.T) {
		h, p, s := b64(`{"alg":"EdDSA"}`), b64(goodPayload), "AAAA"
		for _, token := range []string{
			h + "." + p + ".", h + "." + p, h + "..", "." + p + "." + s, "..", "", ".", h, "...",
			h + "." + p + "." + s + ".", h + "." + p + "." + s + ".x", h + "." + p + "." + s + ".x.y", h + ".." + s,
		} {
			_, err := Parse(token)
			wantErr(t, err, ErrMalformed)
		}
	})
	t.Run("J6 alg of another type", func(t *testing.T) {
		for header, want := range map[string]error{
			`{}`: ErrAlgorithm, `{"kid":"a"}`: ErrAlgorithm, `{"ALG":"EdDSA"}`: ErrAlgorithm, `{"alg":"ES512"}`: ErrAlgorithm,
			`{"alg":null}`: ErrMalformed, `{"alg":256}`: ErrMalformed, `{"alg":["EdDSA"]}`: ErrMalformed,
			`{"alg":""}`: ErrMalformed, `{"alg":{}}`: ErrMalformed, `{"alg":true}`: ErrMalformed,
			`{"alg":"eddsa"}`: ErrAlgorithm, `{"alg":"EdDSA "}`: ErrAlgorithm, `{"alg":"Ed25519"}`: ErrAlgorithm,
		} {
			_, err := Parse(made(t, "EdDSA", header, goodPayload))
			wantErr(t, err, want)
		}
	})
}

func TestAttackConfusion(t *testing.T) {
	k := keys()
	mac := func(alg string, secret []byte) string {
		text := b64(`{"alg":"`+alg+`"}`) + "." + b64(goodPayload)
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(text))
		return text + "." + b64(string(h.Sum(nil)))
	}
	spki, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	jwk := `{"kty":"RSA","n":"` + b64(string(k.rsa.N.Bytes())) + `","e":"AQAB"}`
	rsaForms := map[string][]byte{
		"PEM": text, "PEM without final newline": bytes.TrimSuffix(text, []byte("\n")), "SPKI": spki,
		"PKCS#1": x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey), "JWK": []byte(jwk), "modulus": k.rsa.N.Bytes(),
	}
	for name, secret := range rsaForms {
		t.Run("J7 J12 HS256 with "+name, func(t *testing.T) {
			_, err := Parse(mac("HS256", secret))
			wantErr(t, err, ErrAlgorithm)
		})
	}
	point, err := k.p256.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	public := k.ed.Public().(ed25519.PublicKey)
	for name, secret := range map[string][]byte{
		"Ed25519": public, "P-256 point": point.Bytes(), "P-256 x and y": point.Bytes()[1:], "x as text": []byte(b64(string(public))),
	} {
		t.Run("J8 HMAC with "+name, func(t *testing.T) {
			for _, alg := range []string{"HS256", "HS384", "HS512"} {
				_, err := Parse(mac(alg, secret))
				wantErr(t, err, ErrAlgorithm)
			}
		})
	}
	t.Run("J9 RSA family swap", func(t *testing.T) {
		family := allAlgs[3:]
		for _, signed := range family {
			for _, expected := range family {
				if signed == expected {
					continue
				}
				wantErr(t, check(made(t, signed, `{"alg":"`+signed+`"}`, goodPayload), expected), ErrAlgorithm)
				wantErr(t, check(made(t, signed, `{"alg":"`+expected+`"}`, goodPayload), expected), ErrSignature)
			}
		}
	})
	t.Run("J9 every algorithm with every key", func(t *testing.T) {
		for _, alg := range allAlgs {
			token, err := Parse(made(t, alg, `{"alg":"`+alg+`"}`, goodPayload))
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range allAlgs {
				if other == alg {
					if err := token.Verify(alg, publicKey(alg)); err != nil {
						t.Errorf("%s: %v", alg, err)
					}
					continue
				}
				wantErr(t, token.Verify(other, publicKey(other)), ErrAlgorithm)
				if publicKey(other) != publicKey(alg) {
					wantErr(t, token.Verify(alg, publicKey(other)), ErrAlgorithm)
				}
			}
			for _, key := range []crypto.PublicKey{nil, "key", (*rsa.PublicKey)(nil), (*ecdsa.PublicKey)(nil), ed25519.PublicKey{}, &rsa.PublicKey{}, &ecdsa.PublicKey{}, &ecdsa.PublicKey{Curve: elliptic.P256()}} {
				wantErr(t, token.Verify(alg, key), ErrAlgorithm)
			}
			wantErr(t, token.Verify("", publicKey(alg)), ErrAlgorithm)
			wantErr(t, token.Verify("none", publicKey(alg)), ErrAlgorithm)
		}
	})
	t.Run("J11 weak secrets", func(t *testing.T) {
		for _, secret := range []string{"", "secret", "changeme", string(make([]byte, 32))} {
			_, err := Parse(mac("HS256", []byte(secret)))
			wantErr(t, err, ErrAlgorithm)
		}
	})
	t.Run("J18 signature of another token", func(t *testing.T) {
		for _, alg := range allAlgs {
			header := `{"alg":"` + alg + `"}`
			a, b := made(t, alg, header, goodPayload), made(t, alg, header, `{"sub":"eve"}`)
			mixed := a[:strings.LastIndexByte(a, '.')] + b[strings.LastIndexByte(b, '.'):]
			wantErr(t, check(mixed, alg), ErrSignature)
		}
	})
	t.Run("J19 key of another environment", func(t *testing.T) {
		token, err := Parse(made(t, "RS256", `{"alg":"RS256"}`, goodPayload))
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, token.Verify("RS256", &k.others.PublicKey), ErrSignature)
	})
}

func TestAttackECDSA(t *testing.T) {
	for alg, key := range map[string]*ecdsa.PrivateKey{"ES256": keys().p256, "ES384": keys().p384} {
		header := `{"alg":"` + alg + `"}`
		half := key.Params().BitSize / 8
		n, zero, one := key.Params().N, new(big.Int), big.NewInt(1)
		good := signRaw(t, alg, b64(header)+"."+b64(goodPayload))
		r, s := new(big.Int).SetBytes(good[:half]), new(big.Int).SetBytes(good[half:])
		if err := check(withSignature(t, header, ints(half, r, s)), alg); err != nil {
			t.Fatal(err)
		}
		above := new(big.Int).Add(n, one)
		for i, pair := range [][2]*big.Int{{zero, zero}, {zero, s}, {r, zero}, {n, n}, {above, s}, {r, above}, {n, s}, {r, n}, {one, one}} {
			t.Run(fmt.Sprintf("J13 psychic signature %s %d", alg, i), func(t *testing.T) {
				wantErr(t, check(withSignature(t, header, ints(half, pair[0], pair[1])), alg), ErrSignature)
			})
		}
		digest := sha256.Sum256([]byte(b64(header) + "." + b64(goodPayload)))
		der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		for name, signature := range map[string][]byte{
			"DER": der, "one byte short": good[:2*half-1], "one byte long": append(slices.Clone(good), 0),
			"double": append(slices.Clone(good), good...), "leading zero": append([]byte{0}, good...), "half": good[:half],
			"zero before s":      slices.Concat(good[:half], []byte{0}, good[half:]),
			"without first byte": good[1:],
		} {
			t.Run("J14 ECDSA format "+alg+" "+name, func(t *testing.T) {
				wantErr(t, check(withSignature(t, header, signature), alg), ErrSignature)
			})
		}
	}
	t.Run("J14 point off the curve", func(t *testing.T) {
		bad := keys().p256.PublicKey
		//lint:ignore SA1019 making an invalid key is the purpose
		bad.Y = new(big.Int).Add(bad.Y, big.NewInt(1))
		token, err := Parse(made(t, "ES256", `{"alg":"ES256"}`, goodPayload))
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, token.Verify("ES256", &bad), ErrAlgorithm)
	})
}

func TestAttackEd25519(t *testing.T) {
	const header = `{"alg":"EdDSA"}`
	good := signRaw(t, "EdDSA", b64(header)+"."+b64(goodPayload))
	t.Run("J16 S not below L", func(t *testing.T) {
		l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
		l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
		little := slices.Clone(good[32:])
		slices.Reverse(little)
		s := new(big.Int).SetBytes(little)
		bad := s.Add(s, l).FillBytes(make([]byte, 32))
		slices.Reverse(bad)
		wantErr(t, check(withSignature(t, header, append(slices.Clone(good[:32]), bad...)), "EdDSA"), ErrSignature)
	})
	t.Run("J16 lengths", func(t *testing.T) {
		for _, signature := range [][]byte{good[:63], append(slices.Clone(good), 0), good[:32], append(slices.Clone(good), good...)} {
			wantErr(t, check(withSignature(t, header, signature), "EdDSA"), ErrSignature)
		}
	})
	t.Run("J16 R of small order from the key's owner", func(t *testing.T) {
		private := keys().ed
		public := private.Public().(ed25519.PublicKey)
		little := func(b []byte) *big.Int {
			b = slices.Clone(b)
			slices.Reverse(b)
			return new(big.Int).SetBytes(b)
		}
		h := sha512.Sum512(private.Seed())
		h[0] &= 248
		h[31] = h[31]&127 | 64
		identity := append([]byte{1}, make([]byte, 31)...)
		text := b64(header) + "." + b64(goodPayload)
		k := sha512.Sum512(slices.Concat(identity, public, []byte(text)))
		order, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
		order.Add(order, new(big.Int).Lsh(big.NewInt(1), 252))
		s := new(big.Int).Mul(little(k[:]), little(h[:32]))
		scalar := s.Mod(s, order).FillBytes(make([]byte, 32))
		slices.Reverse(scalar)
		signature := append(identity, scalar...)
		if !ed25519.Verify(public, []byte(text), signature) {
			t.Fatal("the signature is not one: this test proves nothing")
		}
		wantErr(t, check(withSignature(t, header, signature), "EdDSA"), ErrSignature)
	})
	token, err := Parse(made(t, "EdDSA", header, goodPayload))
	if err != nil {
		t.Fatal(err)
	}
	// The universal forgery of small order: A = R = identity, S = 0 holds
	// for every message in Go's plain Verify.
	identity := append([]byte{1}, make([]byte, 31)...)
	if !ed25519.Verify(identity, []byte("anything"), append(slices.Clone(identity), make([]byte, 32)...)) {
		t.Error("the forgery does not work any more: this test proves nothing")
	}
	forged, err := Parse(withSignature(t, header, append(slices.Clone(identity), make([]byte, 32)...)))
	if err != nil {
		t.Fatal(err)
	}
	weak := [][]byte{}
	for i := range lowOrder {
		for _, sign := range []byte{0, 0x80} {
			point := slices.Clone(lowOrder[i][:])
			point[31] |= sign
			weak = append(weak, point)
		}
	}
	for low := 0xed; low <= 0xff; low++ { // y from p to 2^255-1
		point := bytes.Repeat([]byte{0xff}, 32)
		point[0], point[31] = byte(low), 0x7f
		weak = append(weak, slices.Clone(point))
		point[31] = 0xff
		weak = append(weak, point)
	}
	for _, point := range weak {
		t.Run("J16 weak A or R "+hex.EncodeToString(point[:2])+hex.EncodeToString(point[31:]), func(t *testing.T) {
			wantErr(t, token.Verify("EdDSA", ed25519.PublicKey(point)), ErrAlgorithm)
			wantErr(t, forged.Verify("EdDSA", ed25519.PublicKey(point)), ErrAlgorithm)
			wantErr(t, check(withSignature(t, header, append(slices.Clone(point), good[32:]...)), "EdDSA"), ErrSignature)
		})
	}
}

// TestLowOrder computes that the listed points are those of order 1, 2, 4 and 8
// and that an ordinary key is not refused.
func TestLowOrder(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	inverse := func(x *big.Int) *big.Int { return new(big.Int).ModInverse(x, p) }
	mod := func(x *big.Int) *big.Int { return x.Mod(x, p) }
	mul := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Mul(a, b)) }
	one := big.NewInt(1)
	d := mul(big.NewInt(-121665), inverse(big.NewInt(121666)))
	for i := range lowOrder {
		little := slices.Clone(lowOrder[i][:])
		slices.Reverse(little)
		y := new(big.Int).SetBytes(little)
		y2 := mul(y, y)
		// -x² + y² = 1 + d x² y²
		x2 := mul(mod(new(big.Int).Sub(y2, one)), inverse(mod(new(big.Int).Add(mul(d, y2), one))))
		x := new(big.Int).ModSqrt(x2, p)
		if x == nil {
			t.Fatalf("%x is not on the curve", lowOrder[i])
		}
		for range 3 {
			dxy := mul(d, mul(mul(x, x), mul(y, y)))
			nx := mul(mod(new(big.Int).Lsh(mul(x, y), 1)), inverse(mod(new(big.Int).Add(one, dxy))))
			ny := mul(mod(new(big.Int).Add(mul(y, y), mul(x, x))), inverse(mod(new(big.Int).Sub(one, dxy))))
			x, y = nx, ny
		}
		if x.Sign() != 0 || y.Cmp(one) != 0 {
			t.Errorf("%x has not an order that divides 8", lowOrder[i])
		}
	}
	for range 100 {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil || !ordinaryPoint(public) {
			t.Fatalf("%x refused, %v", public, err)
		}
	}
}

func TestAttackRSA(t *testing.T) {
	const header = `{"alg":"RS256"}`
	k := keys()
	text := b64(header) + "." + b64(goodPayload)
	token, err := Parse(made(t, "RS256", header, goodPayload))
	if err != nil {
		t.Fatal(err)
	}
	with := func(n *big.Int, e int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: e} }
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	primorial := big.NewInt(2)
	for n := int64(3); n <= 701; n++ {
		if big.NewInt(n).ProbablyPrime(20) {
			primorial.Mul(primorial, big.NewInt(n))
		}
	}
	roca := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123456789), primorial)
	for roca.BitLen() < 2048 {
		roca.Add(roca, new(big.Int).Lsh(primorial, uint(2047-primorial.BitLen())))
	}
	for name, key := range map[string]*rsa.PublicKey{
		"e=1": with(k.rsa.N, 1), "e=2": with(k.rsa.N, 2), "e=0": with(k.rsa.N, 0), "e<0": with(k.rsa.N, -3), "even e": with(k.rsa.N, 65536),
		"1024 bits": &small.PublicKey, "2047 bits": with(new(big.Int).Rsh(k.rsa.N, 1), 65537), "even modulus": with(new(big.Int).Lsh(k.rsa.N, 1), 65537),
		"no modulus": with(nil, 65537), "16384 bits": with(new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 16383), big.NewInt(1)), 65537),
		"ROCA": with(roca, 65537), "negative modulus": with(new(big.Int).Neg(k.rsa.N), 65537),
	} {
		t.Run("J17 RSA key "+name, func(t *testing.T) {
			wantErr(t, token.Verify("RS256", key), ErrAlgorithm)
		})
	}
	if isROCA(k.rsa.N) || isROCA(k.others.N) {
		t.Error("an ordinary modulus counts as ROCA")
	}
	good := signRaw(t, "RS256", text)
	for name, signature := range map[string][]byte{
		"zero": make([]byte, 256), "longer": append([]byte{0}, good...), "shorter": good[1:], "trailing": append(slices.Clone(good), 0),
		"plus modulus": new(big.Int).Add(new(big.Int).SetBytes(good), k.rsa.N).Bytes(), "one": append(make([]byte, 255), 1),
	} {
		t.Run("J17 RSA signature "+name, func(t *testing.T) {
			wantErr(t, check(withSignature(t, header, signature), "RS256"), ErrSignature)
		})
	}
	t.Run("J17 forged padding with e=3", func(t *testing.T) {
		digest := sha256.Sum256([]byte(text))
		block := append([]byte{0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, []byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20")...)
		block = append(block, digest[:]...)
		prefix := slices.Clone(block)
		for len(block) < 256 {
			block = append(block, 0xff)
		}
		root := cubeRoot(new(big.Int).SetBytes(block))
		cube := new(big.Int).Exp(root, big.NewInt(3), nil).FillBytes(make([]byte, 256))
		if !bytes.HasPrefix(cube, prefix) {
			t.Fatal("the forgery is not one")
		}
		forged, err := Parse(withSignature(t, header, root.FillBytes(make([]byte, 256))))
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, forged.Verify("RS256", with(k.rsa.N, 3)), ErrSignature)
	})
	t.Run("J17 PSS salt of another length", func(t *testing.T) {
		text := b64(`{"alg":"PS256"}`) + "." + b64(goodPayload)
		digest := sha256.Sum256([]byte(text))
		for _, salt := range []int{0, 20, 64} {
			signature, err := rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: salt})
			if salt == 0 { // 0 means the longest in Go's options
				signature, err = rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
			}
			if err != nil {
				t.Fatal(err)
			}
			wantErr(t, check(text+"."+base64.RawURLEncoding.EncodeToString(signature), "PS256"), ErrSignature)
		}
	})
}

// cubeRoot returns the largest integer whose cube is at most n.
func cubeRoot(n *big.Int) *big.Int {
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(n.BitLen()/3+2))
	for new(big.Int).Sub(high, low).Cmp(big.NewInt(1)) > 0 {
		middle := new(big.Int).Rsh(new(big.Int).Add(low, high), 1)
		if new(big.Int).Exp(middle, big.NewInt(3), nil).Cmp(n) <= 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
