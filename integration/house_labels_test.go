package integration

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var labelForm = regexp.MustCompile(`^anteroom/[a-z0-9-]+(/[a-z0-9-]+)+/v[0-9]+$`)

// TestHouseLabels: no two purposes of any package share a label, and none begins with another one, so that what is made for one
// purpose is never taken for another.
func TestHouseLabels(t *testing.T) {
	where := map[string]string{}
	for _, s := range goFiles(t) {
		if filepath.Base(s.path) != "labels.go" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			label, err := strconv.Unquote(lit.Value)
			if err != nil || !strings.HasPrefix(label, "anteroom/") || strings.HasSuffix(label, "/") { // the beginning of several
				return true
			}
			if !labelForm.MatchString(label) {
				t.Errorf("%s: %q is not anteroom/PACKAGE/PURPOSE/vN", s.path, label)
			}
			if other, twice := where[label]; twice {
				t.Errorf("%q stands in %s and in %s", label, other, s.path)
			}
			where[label] = s.path
			return true
		})
	}
	if len(where) < 60 {
		t.Errorf("%d labels: the check saw nothing", len(where))
	}
	for a := range where {
		for b := range where {
			if a != b && strings.HasPrefix(a, b) {
				t.Errorf("%q begins with %q", a, b)
			}
		}
	}
}
