package hardening

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
)

const goodRecord = "$anteroom$v=1,ring=0123456789abcdef,l=p1.p3,s=argon2id:m=19456,t=2,p=1,c=portal-pin$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

func TestRecordReadsWhatItWrites(t *testing.T) {
	for _, text := range []string{
		goodRecord,
		strings.Replace(goodRecord, ",c=portal-pin", "", 1),
		strings.Replace(goodRecord, "p1.p3", "p1", 1),
		strings.Replace(goodRecord, "portal-pin", strings.Repeat("c", 64), 1),
		strings.Replace(goodRecord, "portal-pin", "a/B.9:@_+-", 1),
	} {
		r, err := parseRecord(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if r.String() != text {
			t.Errorf("read %s, wrote %s", text, r)
		}
	}
	r, err := parseRecord(goodRecord)
	if err != nil {
		t.Fatal(err)
	}
	if r.ring != "0123456789abcdef" || strings.Join(r.layers, " ") != "p1 p3" || r.context != "portal-pin" || len(r.salt) != 16 || len(r.tag) != 32 {
		t.Errorf("read %+v", r)
	}
}

// TestRecordHasOneSpelling: a record that could be written in two ways could be stored twice, compared wrongly, or carry
// what a checker did not see.
func TestRecordHasOneSpelling(t *testing.T) {
	swap := func(old, new string) string { return strings.Replace(goodRecord, old, new, 1) }
	for name, text := range map[string]string{
		"empty":                        "",
		"other scheme":                 swap("$anteroom$", "$argon2id$"),
		"bytes before it":              "x" + goodRecord,
		"newline behind it":            goodRecord + "\n",
		"a part more":                  goodRecord + "$",
		"a part less":                  goodRecord[:strings.LastIndex(goodRecord, "$")],
		"version 2":                    swap("v=1", "v=2"),
		"version 01":                   swap("v=1", "v=01"),
		"ring in upper case":           swap("abcdef", "ABCDEF"),
		"ring too short":               swap("0123456789abcdef", "0123456789abcd"),
		"ring too long":                swap("0123456789abcdef", "0123456789abcdef00"),
		"ring not hexadecimal":         swap("0123456789abcdef", "0123456789abcdeg"),
		"no layers":                    swap("l=p1.p3,", ""),
		"empty layers":                 swap("p1.p3", ""),
		"layer 0":                      swap("p1.p3", "p0"),
		"layer p01":                    swap("p1.p3", "p01"),
		"layer twice":                  swap("p1.p3", "p1.p1"),
		"falling layers":               swap("p1.p3", "p3.p1"),
		"pinned key as layer":          swap("p1.p3", "d:0123456789abcdef"),
		"seventeen layers":             swap("p1.p3", "p1.p2.p3.p4.p5.p6.p7.p8.p9.p10.p11.p12.p13.p14.p15.p16.p17"),
		"huge layer":                   swap("p1.p3", "p99999999999999999999"),
		"no slow step":                 swap(",s=argon2id:m=19456,t=2,p=1", ""),
		"weaker slow step":             swap("m=19456", "m=8"),
		"slow step as work for us":     swap("m=19456,t=2", "m=4194304,t=9"),
		"slow step reordered":          swap("m=19456,t=2", "t=2,m=19456"),
		"empty context":                swap("portal-pin", ""),
		"context with a comma":         swap("portal-pin", "a,b"),
		"context with a blank":         swap("portal-pin", "a b"),
		"context too long":             swap("portal-pin", strings.Repeat("c", 65)),
		"field after the context":      swap("portal-pin", "a,x=1"),
		"unknown field":                swap(",s=", ",z=1,s="),
		"salt too short":               swap("AAECAwQFBgcICQoLDA0ODw", "AAECAwQFBgcICQoLDA0O"),
		"salt padded":                  swap("DA0ODw$", "DA0ODw==$"),
		"salt with loose bits":         swap("DA0ODw$", "DA0ODx$"),
		"salt with a newline inside":   swap("AAECAwQF", "AAECA\nwQF"),
		"tag in base64url":             goodRecord[:len(goodRecord)-43] + strings.Repeat("_", 43),
		"tag empty":                    goodRecord[:len(goodRecord)-43],
		"longer than any that we make": swap("portal-pin", strings.Repeat("c", 500)),
	} {
		t.Run(name, func(t *testing.T) {
			if text == goodRecord {
				t.Fatal("the case changes nothing")
			}
			if _, err := parseRecord(text); !errors.Is(err, ErrInput) {
				t.Errorf("%q: %v", text, err)
			}
		})
	}
}

// TestTagIsTheDocumentedFormula computes a record's tag a second time, from the words of the design.
func TestTagIsTheDocumentedFormula(t *testing.T) {
	w := newWorld(t, nil)
	records, err := w.Protect(t.Context(), []Item{{UID: "u1", Secret: "correct horse", Context: "pin"}})
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^\$anteroom\$v=1,ring=[0-9a-f]{16},l=p1,s=argon2id:m=19456,t=2,p=1,c=pin\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})$`)
	m := form.FindStringSubmatch(records[0])
	if m == nil {
		t.Fatalf("the record is %s", records[0])
	}
	salt, _ := base64.RawStdEncoding.DecodeString(m[1])
	tag, _ := base64.RawStdEncoding.DecodeString(m[2])
	var in bytes.Buffer
	for _, field := range []string{"anteroom/hardening/record/v1", "pin", "u1", string(salt), string(argon2.IDKey([]byte("correct horse"), salt, 2, 19456, 1, 32))} {
		n := len(field)
		in.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		in.WriteString(field)
	}
	mac := hmac.New(sha256.New, w.node.held().key("p1"))
	mac.Write(in.Bytes())
	if !bytes.Equal(mac.Sum(nil), tag) {
		t.Error("the tag is not HMAC(pepper, lp(label) lp(context) lp(uid) lp(salt) lp(argon2id(secret, salt)))")
	}
}

func TestLabelsDiffer(t *testing.T) {
	labels := []string{labelRecord, labelFast, labelSet, labelSetLayer, labelSource, labelFailures, labelCensus, labelLayer, labelExtract, labelWrap, labelStanza, labelRecovery, labelExport, labelBody, labelUID, labelTry, labelReplaced, labelStore}
	seen := map[string]bool{}
	for _, l := range labels {
		if seen[l] || !regexp.MustCompile(`^anteroom/hardening/[a-z-]+/v[12]$`).MatchString(l) {
			t.Errorf("label %q is used twice or has another form", l)
		}
		seen[l] = true
	}
}

// FuzzRecord: whatever is accepted is written back byte for byte, and nothing panics.
func FuzzRecord(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRecord(text)
		if err != nil {
			if !errors.Is(err, ErrInput) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if r.String() != text || len(text) > maxRecord {
			t.Errorf("read %q, wrote %q", text, r)
		}
	})
}
