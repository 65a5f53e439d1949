package envelope

import (
	"bytes"
	"errors"
	"testing"
)

// TestServiceStreamKeys (row 156): a stream under a key that was reported as compromised is sealed anew under another
// document key, and opens without the old data key; what was not is lost with it, and says so.
func TestServiceStreamKeys(t *testing.T) {
	e := open(t, new(memory), "apps", local(t, 1), func(c *Config) { c.OpenCondemned = true })
	plain := random(2*chunkLen + 9)
	var old, fresh, header bytes.Buffer
	if err := sealStream(t.Context(), e, letter, &old, bytes.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	was := primary(t, e)
	if _, err := e.Condemn(t.Context(), was.ID); err != nil {
		t.Fatal(err)
	}
	if err := resealStream(t.Context(), resealing{e}, letter, &fresh, bytes.NewReader(old.Bytes())); err != nil {
		t.Fatal(err)
	}
	head := headerOf(old.Bytes())
	anew, changed, err := resealHeader(t.Context(), e, letter, old.Bytes()[:head])
	if err != nil || !changed {
		t.Fatalf("header: %v, %v", changed, err)
	}
	header.Write(append(anew, old.Bytes()[head:]...))
	if err := e.Destroy(t.Context(), was.ID); err != nil {
		t.Fatal(err)
	}
	for name, stream := range map[string][]byte{"resealed": fresh.Bytes(), "with a new header": header.Bytes()} {
		var got bytes.Buffer
		if err := openStream(t.Context(), e, letter, span{}, &got, bytes.NewReader(stream)); err != nil || !bytes.Equal(got.Bytes(), plain) {
			t.Errorf("%s: %d bytes, %v", name, got.Len(), err)
		}
		if id, ok := KeyOf(stream[headerPrefix:headerOf(stream)]); !ok || id != primary(t, e).ID {
			t.Errorf("%s: it names key %s", name, id)
		}
	}
	var got bytes.Buffer
	if err := openStream(t.Context(), e, letter, span{}, &got, bytes.NewReader(old.Bytes())); !errors.Is(err, ErrSealed) || got.Len() > 0 {
		t.Errorf("the old stream: %d bytes, %v", got.Len(), err)
	}
}
