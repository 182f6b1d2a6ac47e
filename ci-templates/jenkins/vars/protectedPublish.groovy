/**
 * Hardens a package and publishes it: protectedPublish(fractalopsUrl: 'https://fractalops.example', project: 'core')
 *
 * The ID token is bound as a file, for this one command; it stands in no variable and in no log.
 * Returns the outputs: publishedPackages (JSON), integrity, correlationId, expiresAt, buildManifest.
 */
Map call(Map settings = [:]) {
    // Setting of this step, and the variable that the binary reads it from.
    Map variables = [
        project      : 'PROTECTED_REGISTRY_PROJECT',
        package      : 'PROTECTED_REGISTRY_PACKAGE',
        source       : 'PROTECTED_REGISTRY_SOURCE',
        tarball      : 'PROTECTED_REGISTRY_TARBALL',
        tag          : 'PROTECTED_REGISTRY_TAG',
        with         : 'PROTECTED_REGISTRY_WITH',
        out          : 'PROTECTED_REGISTRY_OUT',
        profile      : 'PROTECTED_REGISTRY_PROFILE',
        escrowKey    : 'PROTECTED_REGISTRY_ESCROW_KEY',
        sign         : 'PROTECTED_REGISTRY_SIGN',
        signKey      : 'PROTECTED_REGISTRY_SIGN_KEY',
        dryRun       : 'PROTECTED_REGISTRY_DRY_RUN',
        fractalopsUrl: 'FRACTALOPS_BASE_URL',
        caFile       : 'PROTECTED_REGISTRY_CA_FILE',
        config       : 'PROTECTED_REGISTRY_CONFIG',
        cliPath      : 'PROTECTED_REGISTRY_CLI_PATH',
    ]
    return protectedRegistry('publish', variables, settings, settings.credentialsId ?: 'fractalops-id-token')
}
