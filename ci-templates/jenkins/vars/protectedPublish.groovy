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
    List<String> environment = []
    for (String name : new ArrayList<String>(settings.keySet())) {
        if (name == 'credentialsId' || name == 'signingCredentialsId') {
            continue
        }
        if (!variables.containsKey(name)) {
            error("protectedPublish has no setting '${name}'; it has credentialsId, signingCredentialsId, ${variables.keySet().join(', ')}")
        }
        environment.add("${variables[name]}=${settings[name]}".toString())
    }
    // Whoever opens a change request chooses what its build runs: no such build gets the ID token.
    if (env.CHANGE_ID) {
        error("protectedPublish does not run for a change request (CHANGE_ID is ${env.CHANGE_ID}); publish from a branch or tag")
    }

    String folder = "${pwd(tmp: true)}/protected-publish-${UUID.randomUUID()}"
    String outputs = "${folder}/outputs.env"
    environment.add("PROTECTED_REGISTRY_DOTENV=${outputs}".toString())
    String credentials = settings.credentialsId ?: 'fractalops-id-token'
    List bindings = [file(credentialsId: credentials, variable: 'FRACTALOPS_ID_TOKEN_FILE')]
    // A second token, with the audience `sigstore`: only for who signs with another authority than that of FractalOps.
    if (settings.signingCredentialsId) {
        bindings.add(file(credentialsId: settings.signingCredentialsId, variable: 'SIGSTORE_ID_TOKEN_FILE'))
    }
    try {
        writeFile(file: outputs, text: '')
        withEnv(environment) {
            withCredentials(bindings) {
                sh(label: 'Protected publish', script: '"${PROTECTED_REGISTRY_CLI_PATH:-protected-registry}" publish')
            }
        }
        return read(readFile(file: outputs, encoding: 'UTF-8'))
    } finally {
        dir(folder) { deleteDir() }
    }
}

/** Turns lines of NAME_IN_CAPITALS=value into a map with camelCase names. */
private Map read(String text) {
    Map result = [:]
    for (String line : text.split('\n')) {
        int equals = line.indexOf('=')
        if (equals > 0) {
            String[] words = line.substring(0, equals).toLowerCase().split('_')
            String name = words[0]
            for (int i = 1; i < words.length; i++) {
                name += words[i].capitalize()
            }
            result[name] = line.substring(equals + 1)
        }
    }
    return result
}
