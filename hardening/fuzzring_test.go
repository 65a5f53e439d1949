package hardening

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

// FuzzRingFile: what the store holds, and the secret part of it, as somebody might leave them. Nothing opens that is not
// whole, and what opens is written and read again without loss.
func FuzzRingFile(f *testing.F) {
	old := readOldRing(f)
	f.Add([]byte(old.Ring), []byte(`{"primary":"p1","uid_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","versions":[]}`))
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	fileKey := make([]byte, fileKeySize)
	f.Fuzz(func(t *testing.T, raw, body []byte) {
		if file, err := readRingFile(raw); err == nil {
			if file.Epoch == 0 || !isRingID(file.Ring) || len(file.Body) == 0 {
				t.Error("read, and not whole")
			}
			if o, err := openBody(file, fileKey); err == nil && o.key(o.body.Primary) == nil {
				t.Error("open without a primary")
			}
			unwrap(file, nil, nil)
			_ = stanzaNames(file)
		}
		o := &openRing{file: ringFile{Ring: "0123456789abcdef", Epoch: 1}, fileKey: fileKey}
		if o.readBody(body) != nil {
			return
		}
		for _, v := range o.body.Versions {
			for _, outermost := range []bool{true, false} {
				if key, err := o.usable(v.ID, outermost); err == nil && len(key) != pepperSize {
					t.Fatalf("%q is usable with a key of %d bytes", v.ID, len(key))
				}
			}
		}
		if key, err := o.usable(o.newest(now), true); err != nil || len(key) != pepperSize {
			t.Fatalf("the newest is not usable: %v", err)
		}
		o.promote(now)
		o.upgradeDue()
		sealed, err := o.seal()
		if err != nil {
			return // a time that JSON cannot say
		}
		file, err := readRingFile(sealed)
		if err != nil {
			t.Fatal(err)
		}
		again, err := openBody(file, fileKey)
		if err != nil {
			t.Fatal(err)
		}
		if again.inherits(o) != nil || o.inherits(again) != nil || again.newest(now) != o.newest(now) {
			t.Error("written and read it is another ring")
		}
	})
}

// FuzzImport: a file that says it is a ring from another site. It is opened with a fixed key, by which nobody but this test
// seals.
func FuzzImport(f *testing.F) {
	old := readOldRing(f)
	secret, err := ParseRecoveryKey([]byte(old.RecoveryKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"anteroom_ring_export":1,"ring":"0123456789abcdef","epoch":1,"recipient":"x","sealed":"AAAA"}`))
	f.Fuzz(func(t *testing.T, blob []byte) {
		o, err := readExport(blob, secret)
		if err != nil {
			return
		}
		// Only what was sealed to the key opens: a seed of the corpus, whole and in its own spelling of JSON.
		var file exportFile
		if json.Unmarshal(blob, &file) != nil || o.file.Ring != file.Ring || o.file.Epoch != file.Epoch || len(o.body.UIDKey) != pepperSize || bytes.Equal(o.body.UIDKey, make([]byte, pepperSize)) {
			t.Error("opened, and not whole")
		}
	})
}
