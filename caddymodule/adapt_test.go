package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the JSON that comes out into testdata/adapt")

// TestAdapt compares each Caddyfile of testdata/adapt with what stands after its line of dashes: the
// JSON that it becomes, or the words that its error must contain, one a line.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	refused := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		input, want, ok := strings.Cut(string(text), "\n----------\n")
		if !ok {
			t.Fatalf("%s has no line of dashes", f)
		}
		isError := !strings.HasPrefix(strings.TrimSpace(want), "{")
		if isError {
			refused++
		}
		t.Run(strings.TrimSuffix(filepath.Base(f), ".caddyfiletest"), func(t *testing.T) {
			got, err := adapt(t, input)
			switch {
			case isError && err == nil:
				t.Fatal("it adapts")
			case isError:
				for _, words := range strings.Split(strings.TrimSpace(want), "\n") {
					if !strings.Contains(err.Error(), words) {
						t.Errorf("the message lacks %q:\n%v", words, err)
					}
				}
			case err != nil:
				t.Fatal(err)
			case *update:
				var pretty bytes.Buffer
				if err := json.Indent(&pretty, got, "", "\t"); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f, []byte(input+"\n----------\n"+pretty.String()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				if compact(t, got) != compact(t, []byte(want)) {
					t.Errorf("it adapts to\n%s", got)
				}
			}
		})
	}
	if 3*refused < len(files) {
		t.Errorf("%d of %d files expect an error; at least a third should", refused, len(files))
	}
}

func compact(t *testing.T, in []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
