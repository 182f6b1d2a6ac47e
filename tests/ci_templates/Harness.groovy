// groovy Harness.groovy LIBRARY JENKINSFILE WORKSPACE: runs a Jenkinsfile against a shared library.
//
// The steps that the library uses are here with the meaning that Jenkins gives them: `sh` is a real process, `withEnv`
// and `withCredentials` end with their block, a credential's ID token is made anew at each binding, and what a binding
// hides is `****` in the log. The continuation-passing transformation and the script sandbox are not here.
//
// TOKEN_URL and TOKEN_BEARER_FILE say where credentials get their ID tokens, and AUDIENCES, a JSON object, which there are
// and the audience of each. JENKINS_* becomes the environment of the build, without the prefix.

import java.nio.file.Files
import java.nio.file.attribute.PosixFilePermissions

import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.customizers.ImportCustomizer

@interface Library { String value() }

class StepFailed extends RuntimeException {
    StepFailed(String message) { super(message) }
}

/** The state of one build. */
class Build {
    static File library
    static File folder
    static Map<String, String> environment = [:]
    static Set<String> hidden = []
    static Map<String, String> audiences = [:]
    static GroovyShell shell

    static void log(String line) {
        hidden.each { line = line.replace(it, '****') }
        System.out.println(line)
        System.out.flush()
    }

    /** Runs a block, then puts environment and masks back as they were. */
    static Object scoped(Closure change, Closure body) {
        def before = new LinkedHashMap(environment)
        def masks = new HashSet(hidden)
        try {
            change()
            return body()
        } finally {
            environment = before
            hidden = masks
        }
    }
}

abstract class Pipeline extends Script {
    def echo(Object message) { Build.log(message.toString()) }

    def error(Object message) { throw new StepFailed(message.toString()) }

    boolean isUnix() { true }

    String pwd(Map options = [:]) {
        if (!options.tmp) { return Build.folder.path }
        def temporary = new File("${Build.folder.path}@tmp")
        temporary.mkdirs()
        temporary.path
    }

    def dir(String path, Closure body) {
        def before = Build.folder
        Build.folder = at(path)
        try { body() } finally { Build.folder = before }
    }

    def deleteDir() { Build.folder.deleteDir() }

    def writeFile(Map options) {
        def file = at(options.file)
        file.parentFile.mkdirs()
        file.setText(options.text, 'UTF-8')
    }

    String readFile(Map options) { at(options.file).getText(options.encoding ?: 'UTF-8') }

    def withEnv(List pairs, Closure body) {
        Build.scoped({
            pairs.each { pair ->
                def (name, value) = pair.split('=', 2)
                Build.environment[name] = value
            }
        }, body)
    }

    Map file(Map binding) { [kind: 'file'] + binding }

    def withCredentials(List bindings, Closure body) {
        def secrets = new File("${pwd(tmp: true)}/secretFiles")
        try {
            Build.scoped({
                bindings.each { binding ->
                    def audience = Build.audiences[binding.credentialsId]
                    if (binding.kind != 'file' || !audience) {
                        throw new StepFailed("Could not find credentials entry with ID '${binding.credentialsId}'")
                    }
                    secrets.mkdirs()
                    def path = Files.createDirectory(secrets.toPath().resolve(binding.credentialsId)).resolve('id_token')
                    Files.createFile(path, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString('rw-------')))
                    path.toFile().setText(idToken(audience), 'UTF-8')
                    Build.environment[binding.variable] = path.toString()
                    Build.hidden << path.toString()
                }
            }, body)
        } finally {
            secrets.deleteDir()
        }
    }

    def sh(String script) { sh(script: script) }

    def sh(Map options) {
        def builder = new ProcessBuilder('sh', '-xe', '-c', options.script.toString())
        builder.directory(Build.folder).redirectErrorStream(true)
        builder.environment().clear()
        builder.environment().putAll(Build.environment)
        def process = builder.start()
        process.outputStream.close()
        process.inputStream.eachLine('UTF-8') { Build.log(it) }
        int code = process.waitFor()
        if (code != 0) { throw new StepFailed("script returned exit code ${code}") }
    }

    // A scripted stage runs its block; a declarative one is asked first.
    boolean wanted = true

    def stage(String name, Closure body) {
        Build.log("[stage] ${name}")
        wanted = true
        body()
    }

    def node(Object label = null, Closure body) { body() }
    def pipeline(Closure body) { body() }
    def agent(Closure body) { body() }
    def label(String name) { }
    def stages(Closure body) { body() }
    def when(Closure body) { body() }
    def tag(String glob) { wanted = wanted && Build.environment.TAG_NAME?.matches(glob.replace('*', '.*')) }
    def steps(Closure body) { if (wanted) { body() } else { Build.log('skipped') } }

    Object getEnv() { Build.environment.asImmutable() }

    /** An unknown step is one of the library, as in Jenkins. */
    def methodMissing(String name, Object arguments) {
        def file = new File(Build.library, "vars/${name}.groovy")
        if (!file.exists()) { throw new StepFailed("No such DSL method '${name}' found") }
        Build.shell.parse(file).invokeMethod('call', arguments)
    }

    File at(Object path) {
        def file = new File(path.toString())
        file.absolute ? file : new File(Build.folder, path.toString())
    }

    static String idToken(String audience) {
        def url = "${System.getenv('TOKEN_URL')}?audience=${URLEncoder.encode(audience, 'UTF-8')}"
        def connection = new URL(url).openConnection()
        connection.setRequestProperty('Authorization', "Bearer ${new File(System.getenv('TOKEN_BEARER_FILE')).text.trim()}")
        new groovy.json.JsonSlurper().parse(connection.inputStream).value
    }
}

Build.library = new File(args[0])
Build.folder = new File(args[2])
Build.audiences = new groovy.json.JsonSlurper().parseText(System.getenv('AUDIENCES'))
System.getenv().each { name, value ->
    if (name.startsWith('JENKINS_')) { Build.environment[name.substring(8)] = value }
}
def configuration = new CompilerConfiguration(scriptBaseClass: Pipeline.name)
configuration.addCompilationCustomizers(new ImportCustomizer().addImports('Library'))
Build.shell = new GroovyShell(getClass().classLoader, new Binding(), configuration)
try {
    Build.shell.parse(new File(args[1])).run()
    Build.log('Finished: SUCCESS')
} catch (StepFailed failure) {
    Build.log("ERROR: ${failure.message}")
    Build.log('Finished: FAILURE')
    System.exit(1)
}
