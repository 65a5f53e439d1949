package report

import (
	"fmt"
	"strings"
	"testing"
)

const diffLines = 200

// manyLines are lines as a large site has them.
func manyLines() string {
	var b strings.Builder
	for i := range diffLines {
		switch i % 10 {
		case 0:
			fmt.Fprintf(&b, "deny user u%d /api/v%d/**\n", i, i%7)
		case 1:
			fmt.Fprintf(&b, "require acr mfa /api/v%d/patients/*/charts/c%d\n", i%7, i)
		case 2:
			fmt.Fprintf(&b, "allow role r%d group g%d GET /wards/{ward}/c%d network 10.%d.0.0/16\n", i%50, i%7, i, i%9)
		default:
			fmt.Fprintf(&b, "allow role r%d GET,POST /api/v%d/patients/*/charts/c%d\n", i%50, i%7, i)
		}
	}
	return b.String()
}

// BenchmarkDiffMany is a line that opens everything in a config of many lines.
func BenchmarkDiffMany(b *testing.B) {
	before, after := []*Site{site(b, manyLines())}, []*Site{site(b, manyLines()+"allow role r7 /**")}
	for b.Loop() {
		if c := Compare(before, after); !c.Opens() {
			b.Fatal("nothing opens")
		}
	}
}
