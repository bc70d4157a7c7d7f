// verify ROOT ISSUING LEAVES TIME: reads certificates as PEM, and prints a line for each leaf: whether crypto/x509 takes it at TIME
// (seconds since 1970) as a client's, as a server's, and for any usage; then its common name, its URI, its policy and its times.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strconv"
	"time"
)

func certificates(path string) []*x509.Certificate {
	rest, err := os.ReadFile(path)
	if err != nil {
		fail(path, err)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return all
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			fail(path, err)
		}
		all = append(all, certificate)
	}
}

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	os.Exit(1)
}

func pool(path string) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, certificate := range certificates(path) {
		pool.AddCert(certificate)
	}
	return pool
}

func main() {
	if len(os.Args) != 5 {
		fail("verify", fmt.Errorf("ROOT ISSUING LEAVES TIME"))
	}
	seconds, err := strconv.ParseInt(os.Args[4], 10, 64)
	if err != nil {
		fail(os.Args[4], err)
	}
	roots, issuing := pool(os.Args[1]), pool(os.Args[2])
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, leaf := range certificates(os.Args[3]) {
		takes := func(usage x509.ExtKeyUsage) bool {
			_, err := leaf.Verify(x509.VerifyOptions{
				Roots:         roots,
				Intermediates: issuing,
				CurrentTime:   time.Unix(seconds, 0),
				KeyUsages:     []x509.ExtKeyUsage{usage},
			})
			return err == nil
		}
		if len(leaf.URIs) != 1 || len(leaf.PolicyIdentifiers) != 1 {
			fail(leaf.Subject.CommonName, fmt.Errorf("%d URIs, %d policies", len(leaf.URIs), len(leaf.PolicyIdentifiers)))
		}
		fmt.Fprintln(out,
			takes(x509.ExtKeyUsageClientAuth), takes(x509.ExtKeyUsageServerAuth), takes(x509.ExtKeyUsageAny),
			leaf.Subject.CommonName, leaf.URIs[0], leaf.PolicyIdentifiers[0],
			leaf.NotBefore.Unix(), leaf.NotAfter.Unix())
	}
}
