package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// faketime cannot move the clock of a Go program, which asks the kernel itself. So the binary is built once more with other
// files in place of those that choose the clock (go build -overlay): each of our packages adds what the file in
// ANTEROOM_TEST_CLOCK says to the time. Nothing of this is in the tree or in the product.

// clocks are the files in which a package takes the machine's clock when it was given none.
var clocks = []string{"session/session.go", "portal/portal.go", "gate/gate.go", "store/redis/redis.go"}

const shiftedNow = `

func shiftedNow() time.Time {
	text, err := os.ReadFile(os.Getenv("ANTEROOM_TEST_CLOCK"))
	if err != nil {
		panic(err)
	}
	by, err := time.ParseDuration(string(text))
	if err != nil {
		panic(err)
	}
	return time.Now().Add(by)
}
`

// shiftedBinary returns a bin/anteroom whose clock a file moves.
func shiftedBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "anteroom")
	replace := map[string]string{}
	for _, file := range clocks {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), "ow = time.Now\n", "ow = shiftedNow\n", 1)
		if changed == string(text) {
			t.Fatalf("%s takes no clock any more; mend the list", file)
		}
		changed = strings.Replace(changed, "import (\n", "import (\n\t\"os\"\n", 1) + shiftedNow
		write(t, filepath.Join(dir, strings.ReplaceAll(file, "/", "_")), changed)
		replace[filepath.Join(root, file)] = filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), string(overlay))
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "./cmd/anteroom")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0") // as make build does: another value compiles all of Caddy again
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building with another clock: %v\n%s", err, out)
	}
	return path
}
