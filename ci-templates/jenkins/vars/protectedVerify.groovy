/**
 * Checks a package against its signed documents: protectedVerify(artifact: 'build/acme-core-1.2.3.tgz', policy: 'policy.toml')
 *
 * A tarball and a folder need no ID token. For a version in the registry that FractalOps names, give credentialsId: the token
 * is bound as a file, for this one command.
 * Returns the outputs: verified, integrity, slsaBuildLevel, summary, summaryBundle. The step fails when a check does.
 */
Map call(Map settings = [:]) {
    // Setting of this step, and the variable that the binary reads it from.
    Map variables = [
        fractalopsUrl: 'FRACTALOPS_BASE_URL',
        artifact     : 'PROTECTED_REGISTRY_ARTIFACT',
        project      : 'PROTECTED_REGISTRY_PROJECT',
        bundle       : 'PROTECTED_REGISTRY_BUNDLE',
        policy       : 'PROTECTED_REGISTRY_POLICY',
        identity     : 'PROTECTED_REGISTRY_IDENTITY',
        issuer       : 'PROTECTED_REGISTRY_ISSUER',
        expectSource : 'PROTECTED_REGISTRY_EXPECT_SOURCE',
        expectBuilder: 'PROTECTED_REGISTRY_EXPECT_BUILDER',
        trustedRoot  : 'PROTECTED_REGISTRY_TRUSTED_ROOT',
        key          : 'PROTECTED_REGISTRY_KEY',
        registry     : 'PROTECTED_REGISTRY_REGISTRY',
        download     : 'PROTECTED_REGISTRY_DOWNLOAD',
        offline      : 'PROTECTED_REGISTRY_OFFLINE',
        summary      : 'PROTECTED_REGISTRY_SUMMARY',
        sign         : 'PROTECTED_REGISTRY_SIGN',
        signKey      : 'PROTECTED_REGISTRY_SIGN_KEY',
        rebuild      : 'PROTECTED_REGISTRY_REBUILD',
        manifest     : 'PROTECTED_REGISTRY_MANIFEST',
        mark         : 'PROTECTED_REGISTRY_MARK',
        caFile       : 'PROTECTED_REGISTRY_CA_FILE',
        config       : 'PROTECTED_REGISTRY_CONFIG',
        cliPath      : 'PROTECTED_REGISTRY_CLI_PATH',
    ]
    return protectedRegistry('verify', variables, settings, settings.credentialsId)
}
